"""How tasks get their addresses: one driver per way, behind the contract in ``contract``.

``bridge`` (the default) connects tasks by a bridge of ours, ``routed`` gives each a link with routes of
its own, ``macvlan`` and ``ipvlan`` make it a neighbour of the hosts on a link of this host. ``opening``
loads only the driver that the settings name. Imports ``kernel``, ``bridge`` and the plain values of
the room.

Tests: ``tests/unit/network/drivers``, ``tests/integration/network/drivers``.
"""
