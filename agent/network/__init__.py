"""Addresses and namespaces of awsvpc tasks, host ports of bridge tasks, and all netlink code.

The entry points are ``pool.TaskNetworks`` (made by ``assembly``; ``task_claims`` gives and takes sandboxes,
``address_pool`` their addresses), ``host_ports.HostPorts``, ``names.resolv_files.ResolvFiles``
and ``kernel.link_hotplug.LinkHotplug``. Packages, each importing only those above it::

    kernel/      how the kernel is asked: netlink, nftables, namespaces
    bridge/      task addresses by a bridge: links, and one set element per task that says what may
                 pass its link in either direction, added by netlink in 20 µs
    drivers/     the contract of task addresses, which ``bridge`` is one way to keep, and the others
    groups/      security groups: one table, compiled by pure functions, changed in one transaction
    host/        firewall, forwarding, 169.254.170.2; the kernel reports damage, which is repaired and
                 logged once
    fleet/       the way to tasks on other hosts; loaded if it is turned on
    sandboxes/   created, watched, removed; at the start, rows, engine and kernel are matched, and
                 nothing is removed before control has listed what it wants
    container_sandboxes/  networks of single containers in bridge mode, made by the engine ahead of demand
    inspection/  shows all of it to operators, and checks it on their order
    eni/         interfaces of Amazon ECS, moved into sandboxes; loaded with the first one
    tracing/     which rules of the host a connection of a task meets; loaded when it is asked for
    faults/      black holes, latency and packet loss in a namespace; loaded with the first one
    alias_ports  leads ports of aliases of Service Connect to ports of containers; loaded with the first one
    names/       name servers of tasks, and files for containers: resolv.conf, hosts

Anything added to the host's part must be restored by ``HostNetwork.ensure`` (for a link: the driver's
``attach`` and ``put_back``), which repair uses, too, and its loss must be recognized in kernel
messages. ``claim`` is durable before it returns, and returns the same answer for the same task;
``release`` is idempotent. Fails with ``NetworkFailure``, ``RuntimeFailure`` or ``StateFailure``:
call again. Netlink runs in one thread. Accesses only its own links, tables and pause containers,
its rules in Docker's chain, and the host's forwarding switches. Tests: ``tests/unit/network``,
``tests/integration/network``.
"""
