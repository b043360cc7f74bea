"""ACS, the channel on which Amazon ECS sends orders.

::

    session.py      the connection: opened, watched, reopened; dispatches each message
    message_queue.py    carries out orders one at a time; bounded, outlives a connection
    messages.py     the content of each message, and the answers (pure); uses fields.py (pure)
    tasks.py        a task as ECS orders it -> an assignment of ours (pure)
    validity.py     what makes an interface or a volume usable (pure)
    payloads.py  manifests.py  credentials.py  attachments.py  updates.py    one kind of order each

An order is acknowledged once it is durable. A message that cannot be acted on is logged now and
then and not acknowledged, so that it comes again. If a task in it has an ARN but cannot be read,
the task is reported STOPPED. Role credentials are kept only in memory. Connection failures are
retried with backoff and affect no task. Tests: ``tests/unit/upstream/amazon/acs``,
``tests/integration/ecs``.
"""
