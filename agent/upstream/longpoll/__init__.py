"""The client of our own control endpoint: calls over HTTP, the outbox in order, held polls.

``client.LongPollClient`` registers, polls, and sends the outbox and the figures. An order is asked for
again until it is durable. An order that cannot be read arrives as RUNNING with an empty payload, so
that its task is neither stopped nor forgotten. ``watermark`` keeps what was seen of control and
compares it with each answer: where control went back, ``full_report`` tells everything that the
host holds before a report is sent or an order taken.

Fails as ``agent.upstream`` says; every other failure is ``ControlUnavailable`` inside and tried again.
The token file is read anew when control refuses the token in use. The wire: ``agent.model.wire``.
Tests: ``tests/unit/upstream/longpoll``, ``tests/integration/upstream``.
"""
