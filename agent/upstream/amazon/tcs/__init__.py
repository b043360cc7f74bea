"""Telemetry towards Amazon ECS: figures (``sets``), messages (``requests``), the session (``session``).

``sets`` and ``requests`` are pure, ``queue`` is bounded and drops the oldest, since late figures are of no
use. Trouble is waited out with backoff and never reaches anything else of the agent.
Tests: ``tests/unit/upstream/amazon/tcs``, ``tests/integration/ecs/test_telemetry.py``.
"""
