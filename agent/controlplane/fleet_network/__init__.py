"""The network between hosts: ranges of addresses for each, and what hosts know of each other.

``ranges`` is pure and cuts the operator's networks, of IPv4 and of IPv6, into ranges. ``members`` keeps in the store which host has
which; a host gets its range in the transaction that registers it, keeps it for as long as it is registered,
and gives it back in the one that ends that (``tasks.retire``). ``peers`` follows the members in memory, says
what changed for a host after a revision, and wakes the polls of all hosts when one comes, changes or leaves.

Nothing here runs unless the operator set a network (``--fleet-range``, ``--fleet-ipv6-range``).
Tests: ``tests/unit/controlplane/fleet_network``.
"""
