"""Security groups of tasks, enforced by one nftables table of the host.

``compiled`` turns groups and tasks into chains, sets and maps; ``transition`` finds the commands from one
such table to the next. Both are pure. ``group_rules`` keeps the kernel's table, and ``group_state`` what
control has said, on disk too. Everything is keyed by a task's address, so it works for each driver whose
packets pass the host's network stack; on the bridge, ``bridge_filter`` has them pass it.

A change that only adds or removes members or tasks is one netlink transaction; one that changes rules is
one transaction of ``nft``. Tests: ``tests/unit/network/groups``, ``tests/integration/network/test_groups.py``.
"""
