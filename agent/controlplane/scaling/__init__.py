"""Autoscaling of services: the desired count follows figures of the tasks, within limits.

::

    target.py    what is stored: a scalable target with its policies, and its activities
    figures.py   the last minutes of each service, read from the metric store as each is closed
    tracking.py  pure: what a target tracking policy wants, by its figures
    steps.py     pure: what a step scaling policy wants, by its alarms
    alarm.py     what is stored: alarms on figures of a service; pure: their state
    alarm_states.py  the states of alarms at one minute
    alarm_loop.py    wakes when a minute of figures is closed, and tells services about the alarms that they watch
    decision.py  pure: what all policies of a target want together, with cooldowns and limits
    scheduled.py pure: when scheduled actions are due, and the limits that they set
    acts.py      carries a decision out: count, target and activity in one transaction
    loop.py      wakes when a minute of figures is closed
    action_loop.py  wakes when a target changes or the time of a scheduled action has come

A decision only changes ``ServiceRecord.desired_count``, as UpdateService does; ``services`` does the rest. The
transaction compares the service and the target, and the target remembers the minute that was decided on, so
two loops, or one before and after a restart, act once on the same figures.

Figures that are missing never scale in: a minute in which some running task had none counts as missing for
that. Whatever the store raises is logged, and the next minute tries again.

Source of rules and texts: Application Auto Scaling user guide ("Target tracking scaling policies", "How target
tracking works", "Define cooldown periods") and API reference. Tests: ``tests/unit/controlplane/scaling``,
``tests/unit/controlplane/api/autoscaling``.
"""
