"""Sandboxes of single containers in ``bridge`` mode: ready namespaces that containers join.

The container engine makes each of them, as it makes the network of any container: it gives the address,
publishes the ports and has the rules. So a container that joins one has the same network as any other, and
only starts sooner. Host ports are picked ahead (``kinds``); a container that needs a certain port of the
host cannot join one. Nothing is stored: which container has which sandbox is part of the container.

``sandboxes.ContainerSandboxes`` is the entry point, ``demands`` decides how many are kept (pure).
Without a ready sandbox, or with a definition that needs more, a container gets its network from the
engine when it starts (``engine.warm_network``). Touches the engine and ``/proc``; fails with
``RuntimeFailure``. Earlier versions had sandboxes for ``none`` mode, too: their containers keep them. Tests: ``tests/unit/network/container_sandboxes``,
``tests/integration/e2e/test_warm_networks.py``.
"""
