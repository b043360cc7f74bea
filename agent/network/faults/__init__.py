"""Faults in a network namespace: a port that swallows packets, latency, packet loss.

::

    fault.py       what a fault is: plain data
    rules.py       its nftables table: which packets it concerns (pure)
    queues.py      its queueing disciplines, by netlink: netem, which delays and drops
    injection.py   starts, stops and reads faults in the namespace of a task or of the host

The state is the kernel's alone: a fault exists if its chain does. It ends with the task's namespace,
and an agent that starts finds what it had started. Loaded with the first request for a fault. Fails
with ``NetworkFailure``. Source: Amazon ECS agent 1.105.1, ``ecs-agent/tmds/handlers/fault``
(behaviour). Tests: ``tests/unit/network/faults``, ``tests/integration/network/test_faults.py``,
``tests/vm/test_kernel_networks.py``.
"""
