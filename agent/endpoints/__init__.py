"""Local HTTP: a Unix socket for operators, the Prometheus page, and introspection.

``operator`` (``operator_api``) answers on ``/run/ecs-agent/agent.sock`` (0600) with types of ``model.views``:
``GET /v1/agent``, ``GET /v1/tasks``, ``GET /v1/tasks/{id, prefix, ARN or name}`` (``lookup``, pure, finds
what is meant), ``POST /v1/tasks/{id}/stop`` with a ``reason``, ``POST /v1/drain``,
``GET /v1/tasks/{id}/logs?container=&tail=&follow=&since=&timestamps=``, and ``GET /v1/tasks/{id}/exec``, a WebSocket for a
command in a container (``exec_sessions``), which ends with its client.
``GET /v1/usage`` is held until there is another round of samples (``usage``).
``prometheus`` serves ``GET /metrics`` over TCP. ``introspection`` serves port 51678; ``introspection_view``
builds what it shows, pure. ``source`` is what they need of the agent.

Errors are ``views.Problem`` with 400, 404, 409, or 503 while the container engine does not answer or the
store cannot be written. A socket that somebody removes is made again as the kernel tells
(``inotify``); one that belongs to a live process is never taken. Tests: ``tests/unit/endpoints``,
``tests/integration/e2e/test_operator.py``.
"""
