"""Logs of containers with the engine's ``awslogs`` driver, on their way to our own control.

::

    container ─► engine's driver ─► relay.py ──durable──► spool.py ─► control client (upstream/longpoll)
                      │  keys      signature.py wire.py   spool_file.py
                      └─► endpoints/credentials ◄── grants.py
    parts.py   all of it, built once        cloudwatch.py   where CloudWatch Logs itself is

The engine writes to a server on the loopback that speaks the few calls of CloudWatch Logs which the
driver makes. What it was told is taken is on the disk, survives a kill of the agent, and is delivered in
order and once: ids follow from the events, so that what is sent twice is stored once. While control is
away, logs wait within bounds; then the oldest go, and are counted (``ecs-agent status``). No container
waits for control to start or to write. A disk that takes nothing has the driver come again for a moment.

Keys follow from a secret of the state file and the task's id, so that the containers of an earlier process
go on to write. Touches ``logs/`` in the data directory and one port of the loopback. Fails with
``StateFailure``, which the driver hears as 503. Tests: ``tests/unit/awslogs``,
``tests/integration/e2e/test_awslogs.py``.
"""
