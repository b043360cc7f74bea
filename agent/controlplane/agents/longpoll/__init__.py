"""The long poll of our own agents: calls under ``/v1``, and the tasks that an agent reports as held.

``http`` answers the calls of ``agent.model.wire``, ``log_calls`` accepts log events, ``errors`` has their
errors, and ``held`` restores tasks that the store has lost. A poll is held for half a lease at most: the
connection of a host without power looks the same as before, so only a call is a sign of life.

Uses ``AgentParts``; fails with ``errors.WireError``. A held call ends with 401 when its token is
removed from the file. Tests: ``tests/unit/controlplane/agents`` (``test_agents.py``,
``test_reports.py``, ``test_log_calls.py``), ``tests/unit/upstream/test_real_endpoint.py``.
"""
