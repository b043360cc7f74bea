"""The long poll of our own agents: calls under ``/v1``, and what an agent says that it holds.

``http`` answers the calls of ``agent.model.wire``, ``log_calls`` takes log events, ``errors`` has their
errors, and ``held`` takes back tasks that the store forgot. A poll is held for half a lease at most: the connection of a host
without power looks as it did before, so only a call is a sign of life.

Works with ``AgentParts``; fails with ``errors.WireError``. A call that is held ends with 401 when its
token is withdrawn. Tests: ``tests/unit/controlplane/agents`` (``test_agents.py``,
``test_reports.py``, ``test_log_calls.py``), ``tests/unit/upstream/test_real_endpoint.py``.
"""
