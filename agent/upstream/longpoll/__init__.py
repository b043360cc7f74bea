"""The client of our own control endpoint: HTTP calls, the outbox in order, long polls.

``client.LongPollClient`` registers, polls (``order_poll``), and sends the outbox and the metrics. Role credentials in
an answer go to the ``CredentialStore`` and nowhere else (``credentials``). Orders are requested
again until they are durable. An order that cannot be read is passed on as RUNNING with an
empty payload, so that its task is neither stopped nor forgotten. ``watermark`` remembers the newest
state seen of control and compares each answer with it. If control went back to an older state,
``full_report`` first sends everything that the host holds, before any report is sent and any order
is taken.

Fails as ``agent.upstream`` says; all other failures are ``ControlUnavailable`` internally and are
retried. The token file is read again when control refuses the current token. The wire:
``agent.model.wire``. Tests: ``tests/unit/upstream/longpoll``, ``tests/integration/upstream``.
"""
