"""Addresses and namespaces of awsvpc tasks, host ports of bridge tasks, and all netlink code.

The entry points are ``pool.TaskNetworks``, ``host_ports.HostPorts``, ``resolv_files.ResolvFiles`` and
``link_hotplug.LinkHotplug``. The rest::

    sandbox_table.py sandbox_record.py  which sandboxes exist and who has which
    lifecycle.py warm_pool.py sandbox.py background.py  created, watched and removed
    recovery.py survey.py leftovers.py  at the start, rows, engine and kernel are matched; nothing
                              is removed before control has listed what it wants
    host.py links.py forwarding.py  bridge, links, forwarding: ``HostNetwork.ensure`` restores all
    bridge_port_rules.py bridge_port_setup.py bridge_ports.py  what may pass a task's link in either
                              direction; one set element per task, added by netlink in 20 µs
                              (``set_elements``)
    firewall.py docker_chain.py egress_links.py connections.py  links to the outside, conntrack
    agent_address.py          169.254.170.2, where containers and the engine find the agent's server
    upkeep.py host_watch.py kernel_messages.py repair_loop.py link_repair.py engine_rules.py
    interior.py               the kernel reports damage, which is repaired and logged once

Anything added to the host's part must be restored by ``HostNetwork.ensure`` (for a link: ``attach``
and ``bridge_port_setup.join_bridge``), which repair uses, too, and its loss must be recognized in kernel
messages. ``claim`` is durable before it returns, and returns the same answer for the same task;
``release`` is idempotent. Fails with ``NetworkFailure``, ``RuntimeFailure`` or ``StateFailure``:
call again. Netlink runs in one thread. Accesses only its own links, tables and pause containers,
its rules in Docker's chain, and the host's forwarding switches. Tests: ``tests/unit/network``,
``tests/integration/network``.
"""
