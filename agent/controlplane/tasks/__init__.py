"""The life of a task at the control endpoint: launched, changed by reports and stops, retired.

``launch`` makes the tasks of a placement in one transaction, all or none. ``changes`` is pure: what a
report makes of a task's record; a status never goes back. ``retire`` takes an instance out of its
cluster: one that an operator deregisters is refused from then on, as on Amazon ECS, and its agent
stops; one whose agent leaves comes back as a new instance.

May touch the store through ``controlplane.access``, and ``scheduler``. A placement that somebody
overtook is tried again on what there is now. Tests: ``tests/unit/controlplane/tasks``,
``tests/unit/controlplane/api/ecs/test_tasks.py``, ``tests/unit/controlplane/test_races.py``.
"""
