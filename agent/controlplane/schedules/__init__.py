"""Tasks that run at times: schedules of EventBridge Scheduler, and rules of EventBridge.

Both are one kind of record with an expression and targets (``record``). ``due`` says purely what a record
is due to do and when it is due next; one loop sleeps until then. The tasks of a run and the record that it
has run are one transaction, so that no run happens twice, whoever else runs this loop, and after any crash.

The APIs are ``api.scheduler`` and ``api.events``. Uses the store alone. Tests:
``tests/unit/controlplane/schedules``, ``tests/unit/controlplane/api/scheduler``.
"""
