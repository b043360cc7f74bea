"""The control endpoint as one server: everything that it needs is opened, run and closed here.

::

    serving.py          ``serve``: the only entry point
    settings.py         what a control endpoint is told
    opening.py          opens what the settings ask for, around one store
    doors.py            what accepts calls: both protocols of agents, the APIs, the addresses
    background.py       what runs beside calls until control stops
    operator_access.py  who may call the APIs by TCP
    reloading.py        reads keys, tokens and programs again

    POST /                ECS API, including the calls of Amazon's agent, and the others of ``api.table``
    GET  /acs/ws, /tcs/ws orders to and telemetry from Amazon's agent
    /v1/...               our agents' long poll
    GET  /healthz         200 "ok" if the store answers, else 503
    GET  /metrics, /prometheus/...  for programs that watch the fleet
    GET  /console/        a page for operators, if it is on

Parts are passed by constructor. May import all of ``controlplane``, which does not import it. A failure while it opens
is raised by ``serve``, and what was opened before is closed.
Tests: ``tests/unit/controlplane/test_server.py``.
"""
