"""Services: keep a wanted number of tasks running, and replace them when a service is updated.

::

    record.py     what is stored about a service, its deployments and its events
    observed.py   the tasks and hosts of a service as the scheduler sees them, and who is healthy
    step.py       pure: record + observed + now → the next record, tasks to stop, tasks to start
      failures.py   counts tasks that failed: throttling of starts, circuit breaker
      rollout.py    when a deployment is completed, failed, rolled back or gone
      deployment_alarms.py  alarms that make a deployment fail, and how long it bakes because of them
      replicas.py   arithmetic of REPLICA; scale_in.py has the order of scaling in
      lifecycle.py  stages of BLUE_GREEN, LINEAR and CANARY deployments and their hooks; blue_green.py has
                    their arithmetic, traffic_shift.py the weights of their rules
      daemons.py    arithmetic of DAEMON
      task_sets.py  one step for each task set of a service that somebody else deploys
      split.py      capacity providers of the tasks, by base and weight
      wording.py    texts of events
    balancing.py  pure: tasks as targets: what to register, to drain and to take out of use
    places.py     where tasks are reached; target_ops.py writes the targets
    rollouts.py   service deployments, as the API shows them, also when they are over
    connect.py    pure: aliases and registries of Service Connect, as deployments come and go
    view.py       services, their tasks and hosts in memory, updated by what the store commits
    acts.py       carries out a plan, each part in one transaction
    launching.py  starts tasks by the code that RunTask uses
    due.py        pure: when services take a turn even if nothing changes
    loop.py       wakes when something changed or a time has come, and takes one step after another

A new deployment strategy: ``api.ecs.deployment_settings`` checks it and gives a deployment its stages,
``lifecycle`` goes through them, and ``step._decide`` chooses who counts tasks (``blue_green``, ``replicas``).

Every transaction compares the service's record with what was planned from, and puts it. So of two
schedulers that plan from the same state, only one acts; the other plans again. A task's end is counted
by marking the task (``TaskRecord.counted``) in the same transaction as the service, so a restart counts
nothing twice. Nothing else must survive a crash: a new process loads the store and plans.

May use the store, ``tasks``, ``scheduler`` and the checks of RunTask (``api.ecs.task_orders``). What the
store raises pauses the loop, which then loads everything again. Tests:
``tests/unit/controlplane/services``, ``tests/unit/controlplane/api/ecs/test_services.py`` and
``test_service_deployments.py`` beside it, ``tests/integration/e2e/test_services.py``.

Source of all rules and texts: the Amazon ECS developer guide ("Amazon ECS services", "Service deployment
circuit breaker", "Service event messages", "Service throttle logic") and API reference.
"""
