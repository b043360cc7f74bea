"""Addresses and namespaces of awsvpc tasks, and host ports of bridge tasks: everything netlink.

The doors are ``pool.TaskNetworks``, ``ports.HostPorts``, ``resolv_files.ResolvFiles`` and
``hotplug.LinkHotplug``. Behind them::

    sandbox_table.py sandbox_record.py warm_pool.py sandbox.py  who has which; making and removing one
    recovery.py survey.py leftovers.py  at start rows, engine and kernel are matched; nothing is
                              removed before control has said what it wants
    host.py links.py forwarding.py  bridge, links, switches: ``HostNetwork.ensure`` restores all
    port_rules.py port_links.py  what may come in and go out by a task's link; one set element
                              per task, added by netlink in 20 µs (``set_elements``)
    firewall.py docker_chain.py egress_links.py connections.py  what leads out, what is tracked
    watch.py kernel_messages.py repair_loop.py link_repair.py engine_rules.py interior.py
                              the kernel tells of damage; it is repaired and logged once

What is added to the host's part belongs into ``HostNetwork.ensure`` (for a link, ``attach`` and
``port_links.join_bridge``), which repair uses too, and into the news that tell of its loss.
``claim`` is durable before it returns and gives the same answer for a task; ``release`` is
idempotent. Fails with ``NetworkFailure``, ``RuntimeFailure`` or ``StateFailure``: call again.
Netlink runs in one thread. Touches its own links, tables and pause containers, its rules in Docker's
chain, and the host's switch for forwarding; nothing else of the host.
Tests: ``tests/unit/network``, ``tests/integration/network``.
"""
