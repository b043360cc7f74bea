"""ENI mode: a task's elastic network interface, moved from the host into the task's sandbox.

::

    placing.py      netlink: find the device by its MAC, move it, address it, route it, take it back
    placement.py    waits until the device is on the host; keeps the namespace until it is back

The sandbox has a second link, ``ecs-eth0``, on the agent's own bridge, by which the task reaches
169.254.170.2 and nothing else. Everything is idempotent and describes a desired state. The row of
the sandbox is durable before the device is moved, so that a process that ends at any step is
followed by one that knows where the device is. Loaded with the first task that has an ENI. Fails
with ``NetworkFailure``: call again. Source: Amazon ECS agent 1.105.1, and the CNI plugins
``vpc-eni`` and ``vpc-branch-eni`` (behaviour). Tests: ``tests/integration/network/test_eni.py``.
"""
