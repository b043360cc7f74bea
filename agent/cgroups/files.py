"""Task groups that are made by writing to the mount: for an engine with the driver ``cgroupfs``.

::

    <top of each hierarchy>/ecs/<owner>/<task>/<container>     the engine makes the last

Version 1 has a tree for each controller, and the engine makes its groups in all of them, so that all
are looked through when a task is removed. Everything here blocks; call it in a thread.

Tests: ``tests/unit/cgroups/test_files.py``, ``tests/integration/cgroups``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from agent.cgroups import limits as values
from agent.cgroups.mount import children, is_populated, remove_tree
from agent.errors import CgroupFailure

if TYPE_CHECKING:
    from pathlib import Path

    from agent.cgroups.limits import TaskLimits
    from agent.cgroups.mount import CgroupMount

PARENT = "ecs"
_TRIES = 3


class FileGroups:
    """The groups of one agent's tasks; see ``groups.GroupDriver``."""

    def __init__(self, mount: CgroupMount, owner: str) -> None:
        self._mount = mount
        self._base = f"{PARENT}/{owner}"

    def set_up(self) -> None:
        """Make the group that holds those of all tasks.

        Raises:
            OSError: the kernel refused, or the mount is read-only.
        """
        for controller, top in self._used().items():
            base = top / self._base
            if self._mount.version == 2:
                self._open_up(base, controller)
            else:
                _make(base)

    def _open_up(self, base: Path, controller: str) -> None:
        """Have a controller of version 2 act below ``base``: it is passed on group by group."""
        _make(base)
        for group in (self._mount.root, base.parent, base):
            switch = group / "cgroup.subtree_control"
            if controller not in switch.read_text().split():
                switch.write_text(f"+{controller}")

    def _used(self) -> dict[str, Path]:
        """Return the tops of the hierarchies in which limits are set, by controller."""
        tops = self._mount.hierarchies
        return {name: tops[name] for name in ("cpu", "memory", "pids") if name in tops}

    def parent_of(self, name: str) -> str:
        """Return what the engine is told as ``CgroupParent``."""
        return f"/{self._base}/{name}"

    def path_of(self, name: str) -> str:
        """Return where a task's group is, from the top of a hierarchy."""
        return f"{self._base}/{name}"

    def apply(self, name: str, limits: TaskLimits) -> None:
        """Make a task's group with its limits, or give one that exists these limits.

        Raises:
            CgroupFailure: a limit is asked for that the kernel cannot set.
            OSError: the kernel refused.
        """
        used = self._used()
        for top in dict.fromkeys(used.values()):
            group = top / self._base / name
            try:
                group.mkdir(exist_ok=True)
            except FileNotFoundError:
                self.set_up()  # somebody has removed the groups of all tasks
                group.mkdir(exist_ok=True)
            if self._mount.version == 1:
                _count_children(group)
        wanted = values.v2_files(limits) if self._mount.version == 2 else values.v1_files(limits)
        for controller, file, value in wanted:
            if controller in used:
                _write(used[controller] / self._base / name / file, value)
            elif limits.pids:
                raise CgroupFailure(
                    f"ECS_TASK_PIDS_LIMIT cannot be set: the kernel has no controller {controller}"
                )

    def names(self) -> set[str]:
        """Return the names of all task groups that exist."""
        return {name for top in self._mount.tops() for name in children(top / self._base)}

    def remove(self, name: str) -> None:
        """Remove a task's group in all hierarchies; an absent one is success.

        Raises:
            CgroupFailure: there are processes in it.
        """
        for top in self._mount.tops():
            _remove(top / self._base / name)

    def leave(self) -> None:
        """Remove the group of all tasks if no task has one."""
        for top in self._mount.tops():
            for group in (top / self._base, top / PARENT):
                if not children(group) and group.is_dir():
                    _remove(group)


def _make(base: Path) -> None:
    """Make the group of all tasks, although another agent may remove the one above it as it leaves."""
    for _ in range(_TRIES):
        try:
            base.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:
            continue
        return
    base.mkdir(parents=True, exist_ok=True)


def _remove(group: Path) -> None:
    try:
        remove_tree(group)
    except OSError as error:
        if error.errno == errno.EBUSY and is_populated(group):
            text = f"control group {group} still has processes and is not removed"
            raise CgroupFailure(text) from None
        raise CgroupFailure(f"control group {group} is not removed: {error.strerror}") from None


def _count_children(group: Path) -> None:
    """Have the limit of memory hold for the containers together: kernels before 5.11 must be told."""
    switch = group / "memory.use_hierarchy"
    if switch.exists() and switch.read_text().strip() != "1":
        switch.write_text("1")


def _write(file: Path, value: str) -> None:
    """Write a limit unless it is set already."""
    if not _is(file.read_text().split(), value.split()):
        file.write_text(value)


def _is(found: list[str], wanted: list[str]) -> bool:
    return found == wanted
