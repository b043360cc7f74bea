"""The container engine: one async protocol (``protocol``) and its Docker adapter (``docker``).

``pause`` holds the image of sandboxes and loads it from the package. Other rooms know
``runtime.protocol`` alone; only ``daemon`` and ``doctor`` build the adapter. Every call has a deadline
and fails with a ``RuntimeFailure``: ``EngineUnavailable`` and ``EngineTimeout`` leave the outcome unknown,
``NoSuchContainer`` alone proves that a container is gone. Safe for concurrent callers.
Tests: ``tests/unit/runtime``, ``tests/integration/runtime``.
"""
