"""A part of the CloudWatch API: reads the metrics that control keeps of tasks, services and hosts.

::

    data.py        GetMetricData: queries, their order, pages
    statistics.py  GetMetricStatistics      listing.py   ListMetrics
    alarms.py      PutMetricAlarm, DescribeAlarms, SetAlarmState...  alarm_rules.py  what an alarm may be; pure
    dimensions.py  translates dimensions to scopes of the metric store, and back
    expressions.py metric math; pure          search.py    SEARCH of metric math; pure
    series.py      points of a period become one value; pure
    labels.py      labels of results with their ``${...}``; pure
    errors.py      errors of the service
    operations.py  all of them

Metrics cannot be written: they are those of ``metric_store.catalogue``. Everything else that the service
offers is refused by name. Tests: ``tests/unit/controlplane/api/cloudwatch``.
"""
