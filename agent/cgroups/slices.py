"""Task groups as transient slices of systemd: for an engine with the driver ``systemd``.

::

    ecstasks.slice / ecstasks-<owner>.slice / ecstasks-<owner>-<task>.slice / docker-<id>.scope

Systemd owns the tree, so that limits are asked of it and never written. What it made of them is read
in the files of the group afterwards. Everything here blocks; call it in a thread.

Tests: ``tests/unit/cgroups/test_slices.py``, ``tests/vm/test_limits.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cgroups import limits as values
from agent.cgroups.mount import children, is_populated
from agent.errors import CgroupFailure

if TYPE_CHECKING:
    from pathlib import Path

    from agent.cgroups.limits import TaskLimits
    from agent.cgroups.mount import CgroupMount

PARENT = "ecstasks"
_SLICE = ".slice"


class SliceGroups:
    """The groups of one agent's tasks; see ``groups.GroupDriver``."""

    def __init__(self, mount: CgroupMount, owner: str) -> None:
        self._mount = mount
        self._base = f"{PARENT}-{owner}"

    def set_up(self) -> None:
        """Return when systemd answers; the slices above those of tasks come by themselves.

        Raises:
            CgroupFailure: systemd cannot be reached over the system bus.
        """
        from agent.cgroups import systemd  # noqa: PLC0415 - only hosts with this driver load it

        systemd.version()

    def parent_of(self, name: str) -> str:
        """Return what the engine is told as ``CgroupParent``."""
        return f"{self._base}-{name}{_SLICE}"

    def path_of(self, name: str) -> str:
        """Return where a task's group is, from the top of a hierarchy."""
        return f"{PARENT}{_SLICE}/{self._base}{_SLICE}/{self.parent_of(name)}"

    def apply(self, name: str, limits: TaskLimits) -> None:
        """Make a task's slice with its limits, or give one that exists these limits.

        Raises:
            CgroupFailure: systemd refused or cannot be reached, or the limits are not there afterwards.
            OSError: the group of the slice cannot be read.
        """
        from agent.cgroups import systemd  # noqa: PLC0415

        unit, properties = (
            self.parent_of(name),
            values.slice_properties(limits, version=self._mount.version),
        )
        own: list[systemd.Property] = [
            ("Description", ("s", f"Task {name} of ecs-agent")),
            ("DefaultDependencies", ("b", False)),
            *properties,
        ]
        try:
            systemd.start(unit, own)
        except systemd.UnitExists:
            if self._has(name, limits):
                return
            systemd.change(unit, properties)
        if not self._has(name, limits):
            text = f"systemd made {unit}, but its control group does not have the task's limits"
            raise CgroupFailure(text)

    def names(self) -> set[str]:
        """Return the names of all task groups that exist."""
        begin = f"{self._base}-"
        found = set[str]()
        for top in self._mount.tops():
            for entry in children(top / f"{PARENT}{_SLICE}" / f"{self._base}{_SLICE}"):
                if entry.startswith(begin) and entry.endswith(_SLICE):
                    found.add(entry.removeprefix(begin).removesuffix(_SLICE))
        return found

    def remove(self, name: str) -> None:
        """Stop a task's slice; an absent one is success.

        Raises:
            CgroupFailure: there are processes in it, which would be killed; or systemd refused.
        """
        groups = [top / self.path_of(name) for top in self._mount.tops()]
        groups = [group for group in groups if group.is_dir()]
        for group in groups:
            if is_populated(group):
                raise CgroupFailure(f"control group {group} still has processes and is not removed")
        if groups:
            self._stop(self.parent_of(name))

    def leave(self) -> None:
        """Stop the slices above those of tasks if no task has one."""
        for above in (f"{PARENT}{_SLICE}/{self._base}{_SLICE}", f"{PARENT}{_SLICE}"):
            groups = [top / above for top in self._mount.tops()]
            if any(map(children, groups)):
                return
            if any(group.is_dir() for group in groups):
                self._stop(above.rpartition("/")[2])

    def _stop(self, unit: str) -> None:
        from agent.cgroups import systemd  # noqa: PLC0415

        systemd.stop(unit)

    def _has(self, name: str, limits: TaskLimits) -> bool:
        """Tell whether the files of a task's group say what its limits are."""
        tops, version = self._mount.hierarchies, self._mount.version
        for controller, file, value in (values.v2_files if version == 2 else values.v1_files)(
            limits
        ):
            if controller not in tops:
                if controller == "pids" and not limits.pids:
                    continue
                return False
            path = tops[controller] / self.path_of(name) / file
            if not _agrees(path, value):
                return False
        return True


def _agrees(path: Path, wanted: str) -> bool:
    """Compare a file with what is wanted.

    What is not limited may say so in several ways (a number larger than any host has), and a quota
    may be rounded by a part in a hundred.
    """
    try:
        found = path.read_text().split()
    except FileNotFoundError:
        return False
    first = wanted.split(maxsplit=1)[0]
    if first in ("max", "-1"):
        return found[0] in ("max", "-1") or int(found[0]) >= values.LARGEST
    if not found[0].lstrip("-").isdigit():
        return False
    per = [int(each[1]) if len(each) == 2 else 1 for each in (found, wanted.split())]
    share, asked = int(found[0]) / per[0], int(first) / per[1]
    return abs(share - asked) <= asked / 100
