"""What programs that watch a fleet read of control: metrics, and what Prometheus is to scrape.

::

    calls.py       GET /metrics, GET /prometheus/tasks, GET /prometheus/agents; who may call them
    reader_tokens.py  the tokens of those programs, which can read this and nothing else
    fleet_view.py  the tasks and hosts of the store in memory, followed by one watch
    targets.py     which containers ask to be scraped, and where they are reached (pure)
    families.py    control's metrics (pure)
    figures.py     what control counts while it works

A call costs what changed since the last one, and the length of its answer. Nothing is read or kept before the
first call. Nothing here changes the store. While the store does not answer, calls are answered 503, and
Prometheus keeps the targets that it has.

Tests: ``tests/unit/controlplane/monitoring``.
"""
