"""A part of the CloudWatch Logs API, on the log store of this control.

::

    groups.py  streams.py  tags.py    what they are named for
    events.py                         PutLogEvents, GetLogEvents, FilterLogEvents, StartLiveTail
    patterns.py  json_patterns.py     filter patterns, as predicates on messages; pure
    naming.py  errors.py              names and ARNs; the store's errors in the service's words
    operations.py                     all of them

Served where control keeps logs (``Parts.log_store``); else every call says so. What the service has and
is not done here is refused by the parameter's name. Tests: ``tests/unit/controlplane/api/logs``.
"""
