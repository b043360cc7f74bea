"""Telemetry for Amazon ECS: metrics (``sets``), messages (``requests``), the session (``session``).

``sets`` and ``requests`` are pure; ``queue`` is bounded and drops the oldest rounds, because old
metrics are useless. Failures are retried with backoff and never affect the rest of the agent.
Tests: ``tests/unit/upstream/amazon/tcs``, ``tests/integration/ecs/test_telemetry.py``.
"""
