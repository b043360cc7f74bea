"""The control endpoint: APIs of AWS for operators, a scheduler, the agents' wires and the store.

::

    server.py      builds everything around one store; ``serve`` is the only entry point
    front/         the door: TLS, who commands, which API a request is for, errors
    api/           one package for each API of AWS
    definition/    task definitions as data, and the payload that an agent is given
    tasks/         the life of a task here       scheduler/  placement
    agents/        registration, orders and reports, by two wires
    roles/         credentials of the roles that tasks name, by STS
    store/         the contract of the store, and SQLite behind it
    log_store/     log events of tasks, apart from the keys
    records.py     every kind of value and every key in one table; ``names`` makes and reads ARNs
    access.py      finds, scans and changes records; ``change`` is the one retry of compare-and-set

What is wanted of an instance is the keys under ``/assign/<instance>/``; payloads are not stored but
built at each poll. A store that went back (an older copy) begins a new history (``history``): agents
see that, keep what they hold, and tell all of it before a full set may stop anything.

A process of its own; imports nothing that the agent process runs. Runs on one event loop; several
may change the store at once, since every change is a transaction that compares what was read.
Tests: ``tests/unit/controlplane``, ``tests/integration/controlplane``.
"""
