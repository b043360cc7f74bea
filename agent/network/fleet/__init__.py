"""The way to tasks on other hosts; loaded if ``ECS_FLEET_NETWORK`` is set.

``known`` is what control has said, ``wanted`` finds from it what the kernel should have and what differs;
both are pure. ``routes`` asks and changes the kernel by netlink; so does ``tunnels`` for WireGuard, whose device
is kept by ``device`` and whose key is in ``keys``, all three loaded with that driver alone. ``fleet`` puts them
together: it takes what control says, applies the difference, and repairs what others changed.

The range of this host is in the agent's store, because it must be known before control can be asked; the
kernel keeps the rest when the agent ends, and control says all of it again to an agent that starts.
Tests: ``tests/unit/network/fleet``, ``tests/integration/e2e/test_fleet_network.py``,
``tests/vm/test_kernel_networks.py``.
"""
