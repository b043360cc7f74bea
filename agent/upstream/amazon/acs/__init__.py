"""ACS, the channel on which Amazon ECS gives its orders.

::

    session.py      the connection: opened, watched, opened again; what each message goes to
    message_queue.py    orders, one after the other, bounded, outliving a connection
    messages.py     what each message says and how it is answered (pure); by fields.py (pure)
    tasks.py        a task as ECS orders it -> an assignment of ours (pure)
    validity.py     what makes an interface or a volume usable (pure)
    payloads.py  manifests.py  credentials.py  attachments.py  updates.py    one kind of order each

An order is acknowledged once it is durable. A message that cannot be acted on is logged once in a while
and not acknowledged, so that it comes again; a task in it that names itself but cannot be read is
reported STOPPED. Role credentials go to memory alone. Trouble with the connection is waited
out with backoff and touches no task. Tests: ``tests/unit/upstream/amazon/acs``,
``tests/integration/ecs``.
"""
