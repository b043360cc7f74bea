"""The life of a task at the control endpoint: launch, changes by reports and stops, retirement.

``launch`` creates the tasks of a placement in one transaction, all or none. ``changes`` is pure: it
applies a report to a task's record; a status never goes back. ``retire`` removes an instance from its
cluster. If an operator deregisters it, it is refused from then on, as on Amazon ECS, and its agent
stops; if its agent leaves, the host comes back as a new instance.

May use the store through ``controlplane.access``, and ``scheduler``. A placement that lost a race is
tried again with the new state. Tests: ``tests/unit/controlplane/tasks``,
``tests/unit/controlplane/api/ecs/test_tasks.py``, ``tests/unit/controlplane/test_races.py``.
"""
