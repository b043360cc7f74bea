"""The agent's side of control: clients that bring orders and carry reports.

::

    backends.py       which control the settings name: ``LongPollBackend`` or ``AmazonBackend``
    protocol.py       ``Control``, what the daemon asks of a client, and what it hands to one
    longpoll/         our own control endpoint          amazon/  Amazon ECS
    host_identity.py  who this host is, also after it lost what it wrote down
    backoff.py  connection.py  transport.py  credentials.py    for both clients
    hello.py          who control is, for ``join`` and ``doctor``

Orders are durable here before they are acknowledged, and reports are sent in order from the outbox
until they are. Trouble with control is waited out for ever, with backoff, and never touches a running
task; ``Control.run`` ends only with what a restart cannot mend (``ConfigError``, ``StaleGeneration``,
``RegistrationRefused``). Touches the store and the network; knows nothing of ``engine``, whose half it
sees as ``protocol.TaskHost``. One event loop; loops tell the watchdog by ``model.liveness``.
Tests: ``tests/unit/upstream``, ``tests/integration/upstream``; over both wires ``tests/integration/e2e``.
"""
