"""What the host has (inventory, GPUs, attributes) and which tasks use it (ledger).

``inventory.read_host`` and ``gpu`` read the host once at start; ``attributes.advertised`` says what
this agent can really do here; ``disk_hotplug`` tells of block devices that come; ``role_credentials`` are kept
in memory alone. ``ledger.Ledger`` is pure: any waiting task that fits is admitted, oldest first; once the
oldest has waited a minute, younger ones pass it only if they fit together with it, so that a large task
is not starved. ``impossible`` names what the host will never have.

``read_host`` raises ``ConfigError`` where the reserve leaves no memory for tasks; GPUs that cannot be read
are told of and not advertised. The ledger belongs to one event loop.
Tests: ``tests/unit/resources``; admission in ``tests/unit/engine/test_engine_life.py``.
"""
