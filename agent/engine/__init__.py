"""The task engine: what to do next (``planner``, pure) and doing it (``runner``, one per task).

::

    engine.py  runner.py       all tasks of the host; one mailbox and one coroutine per task
    settle.py  planner.py      conclusions, then steps and waits (pure); live.py: what a crash may lose
    steps.py  network_steps.py  preparations/    doing steps: idempotent and safe to cancel
    container_body.py overlay.py ports.py shared_network.py    how a container is made (pure)
    observe.py  failures.py    what an answer or a failure means for a record (pure)
    watcher.py                 engine events, regular comparison, an engine that hangs
    record_saver.py reports.py record_cleanup.py    record and report in one transaction; the end
    restored.py  holdings.py   what an earlier process left; what is held for a control that forgot

``apply`` and ``stop_task`` raise ``StateFailure`` when an order cannot be written down. Stops are carried
out nevertheless: on a full disk they may be what frees it. A full set says nothing of tasks that were
ordered for another container instance than this host is now (``AgentTask.instance``). Nothing but a
task's runner changes its record. A step that fails is tried again or becomes the task's reason.
May touch the container engine through ``runtime.protocol``, ``network``, ``images``, the ledger, the store.
Tests: ``tests/unit/engine`` (``simulation.py`` drives a whole engine), ``tests/integration/e2e``.
"""
