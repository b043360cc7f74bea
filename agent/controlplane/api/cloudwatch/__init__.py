"""A part of the CloudWatch API: reads the figures that control keeps of tasks, services and hosts.

::

    data.py        GetMetricData: queries, their order, pages
    statistics.py  GetMetricStatistics      listing.py   ListMetrics
    dimensions.py  dimensions in requests and answers, as scopes of the metric store
    series.py      points in periods: one value each; pure
    labels.py      labels of results, with what ``${...}`` stands for; pure
    errors.py      errors in the service's words
    operations.py  all of them

Nothing can be written: metrics are those of ``metric_store.catalogue``. What the service has and is not
done here is refused by its name. Tests: ``tests/unit/controlplane/api/cloudwatch``.
"""
