"""Figures of tasks, services, container instances and clusters: the newest, and minutes that are kept.

::

    store.py       what the event loop works with: takes usage, closes minutes, answers questions
    facts.py       reads the tasks and hosts that the figures are of, from control's store
    roll_up.py     usage and facts of one minute become points of every scope; pure
    catalogue.py   the metrics that there are: names, units, which scopes have them
    scopes.py      what a metric is about: cluster, service, family, task, container instance
    file.py        the points on disk: SQLite, bounded

Agents send sets of their samples every 20 s (``model.usage``; over Amazon's wire, TCS). They are merged
in memory, by control's clock, and become points once a minute: one ``StatisticSet`` for each metric of
each scope. A task is one value of its service, family and cluster, so that a sum is what they use
together. Nobody's figures are believed of another instance's task. What ends has no more points: zero is
only told where it was measured.

Cost, with 1,000 hosts of 20 tasks each: 50 messages a second of 0.2 ms each; a minute is rolled up and
written in 1.2 s of CPU, in a thread, and takes 6 to 9 MB on disk. Therefore points of a minute are kept for three hours, points
of five minutes for 15 days and not of single tasks and instances, and at most ``MOST_BYTES`` in all, of which the
oldest go first. The newest usage is in memory, a kilobyte for each task.

For services and autoscaling, in this process: ``MetricStore.newest`` is the last usage of a task,
``utilization`` what a set of tasks used in the last whole minutes by what it reserves, and ``points`` the
metrics of a scope as CloudWatch has them.

Metrics are not orders: what arrives is not acknowledged as kept. A crash loses the minute that is open, a
stop of control nothing; a file that is damaged is put aside and begun anew, and one that cannot be opened
leaves metrics in memory. May read control's store through ``access`` and ``scheduler.fleet``; knows
nothing of APIs and wires. Tests: ``tests/unit/controlplane/metric_store``.
"""
