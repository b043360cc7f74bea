"""The agent's side of the connection to control: clients that fetch orders and send reports.

::

    backends.py       which control the settings name: ``LongPollBackend`` or ``AmazonBackend``
    protocol.py       ``Control``, the client as the daemon sees it, and what the daemon gives it
    longpoll/         our own control endpoint          amazon/  Amazon ECS
    host_identity.py  the host's identity, also after its files were lost
    backoff.py  connection.py  transport.py  credentials.py    used by both clients
    hello.py          asks control who it is, for ``join`` and ``doctor``

Orders are durable on the host before they are acknowledged. Reports are sent in order from the
outbox until control acknowledges them. Problems with control are retried for ever, with backoff,
and never affect a running task. ``Control.run`` ends only with errors that a restart cannot fix
(``ConfigError``, ``StaleGeneration``, ``RegistrationRefused``). Accesses the store and the network.
Does not import ``engine``, which it sees as ``protocol.TaskHost``. Runs on one event loop; its
loops report to the watchdog through ``model.liveness``. Tests: ``tests/unit/upstream``,
``tests/integration/upstream``; over both wires ``tests/integration/e2e``.
"""
