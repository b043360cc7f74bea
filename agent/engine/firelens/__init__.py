"""FireLens: a log router of the task that the log driver ``awsfirelens`` of its other containers feeds.

``order`` reads what a payload asks for, ``configuration`` writes the router's configuration. Both are
pure; ``preparations.firelens`` puts files and a socket directory on the host.

Source: Amazon ECS agent 1.105.1, ``taskresource/firelens`` and ``api/task/task.go``.
Tests: ``tests/unit/engine/firelens``, ``tests/integration/e2e/test_firelens.py``.
"""
