"""Control groups of tasks: the limits that all containers of a task share.

The door is ``groups.TaskGroups``. Behind it::

    limits.py             what a task may use, in the words of the kernel and of systemd (pure)
    mount.py              where control groups are mounted, and of which version they are
    files.py              groups that are made by writing: the engine's driver is cgroupfs
    slices.py systemd.py  groups that systemd makes: the engine's driver is systemd

The engine makes a container's group below that of its task, with the driver that it has, so that the
agent must use the same one. Touches ``ecs/<owner>`` or ``ecstasks-<owner>.slice`` and nothing else of the
tree. Fails with ``CgroupFailure``: try again. A group with processes is never removed.
Tests: ``tests/unit/cgroups``, ``tests/integration/cgroups``, ``tests/vm/test_limits.py``.
"""
