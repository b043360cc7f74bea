"""What monitoring programs read from control: metrics, and scrape targets for Prometheus.

::

    calls.py          GET /metrics, GET /prometheus/tasks, GET /prometheus/agents; who may call them
    reader_tokens.py  the tokens of those programs, which allow these calls and nothing else
    fleet_view.py     the tasks and hosts of the store in memory, kept up to date by one watch
    targets.py        which containers ask to be scraped, and at which address (pure)
    families.py       control's metrics (pure)
    figures.py        counters of control's own work

The cost of a call depends on what changed since the last one and on the length of its answer. Nothing is read or
kept before the first call, and nothing here changes the store. While the store does not answer, calls get 503,
and Prometheus keeps the targets that it has.

Tests: ``tests/unit/controlplane/monitoring``.
"""
