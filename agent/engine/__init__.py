"""The task engine: decides what to do next (``planner``, pure), and does it (``runner``, per task).

::

    engine.py  runner.py       all tasks of the host; one mailbox and one coroutine per task
    task_table.py  views.py    the tasks, to read; settings.py  tools.py  what the engine is given
    admissible.py  task_commands.py    orders, read and checked (pure); order_batch.py  accepts them in one
                               transaction
    settle.py  planner.py      conclusions, then steps and waits (pure)
    live.py                    state that a crash may lose
    steps.py  network_steps.py  image_steps.py  port_steps.py  preparations/    the steps:
                               idempotent and safe to cancel
    container_body.py overlay.py ports.py shared_network.py    the create body of a container (pure)
    warm_network.py            whether a container can join a ready sandbox, and its body if it does (pure)
    loopback_only.py           the same for one whose network the engine leaves out (pure)
    network_members.py         what of a create body belongs to the engine's network (pure)
    shared_namespaces.py namespace_holders.py    process and IPC namespaces that containers share
    observe.py  failures.py  losses.py    the effect of an answer, of a failure, and of a network that
                               died, on a record (pure)
    watcher.py                 engine events, regular comparison, detection of a hanging engine
    record_saver.py  reports.py    when a record is saved, and the report of what changed
    record_commits.py  record_cleanup.py    both in one transaction; deletion
    restored.py  holdings.py   tasks of an earlier process; tasks held, for control to recover

A container that exits: ``watcher`` gets the engine's event and has the runner inspect the container,
``observe.exited`` records exit code and reason or has it restart, ``settle`` concludes
what that means for the task (an essential one ends it), ``planner`` returns the steps that follow, and
``reports`` tells control.

``apply`` and ``stop_task`` raise ``StateFailure`` if an order cannot be stored. Stops are carried
out nevertheless: on a full disk they may free the space. A full set says nothing about tasks that
were ordered for an earlier container instance of this host (``AgentTask.instance``). Only a task's
runner changes its record. A step that fails is retried or becomes the task's stop reason.
May access the container engine through ``runtime.protocol``, ``network``, ``images``, the ledger
and the store. Tests: ``tests/unit/engine`` (``simulation.py`` drives a whole engine),
``tests/integration/e2e``.
"""
