"""How settings become the parts of an agent: what ``daemon`` makes each of them with.

::

    host.py          what the host has for tasks; task networks and control groups
    tasks.py         how tasks are carried out
    images.py        pulls and clean-up
    endpoints.py     servers for tasks, for the log driver and for introspection
    metrics.py       sampler, OTLP, Prometheus
    names.py         answers to questions for names of tasks
    registration.py  what a control is told of this host
    engine_wait.py   until the container engine answers
    orders.py        what is taken first of what control says
    leaving.py       what is removed when the agent ends

A setting that only one part needs is handed to that part here. Some functions read the host or the
store and say so by being coroutines; all else is pure. ``ConfigError`` names the setting that cannot be
met on this host. Tests: ``tests/unit/wiring``.
"""
