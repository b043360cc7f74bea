"""Where control groups are mounted, of which version they are, and what a group's files say.

Everything here blocks briefly on the cgroup file system; call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NEEDED = ("cpu", "memory")
"""Controllers without which no task can be limited."""


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """The control groups of this host as they were found."""

    root: Path
    version: int
    """2 for the unified hierarchy, 1 for one hierarchy per controller, 0 if there is none."""
    hierarchies: Mapping[str, Path]
    """Top of each hierarchy by controller. Those of version 1 that share one have the same path, and
    those without a controller (``systemd``, ``unified``) have the names of their directories; in
    version 2 all have the root's."""
    has_quotas: bool = True
    """Whether the kernel can limit CPU time, and not only divide it."""

    @classmethod
    def find(cls, root: Path) -> CgroupMount:
        """Look at what is mounted below ``root``, ``/sys/fs/cgroup`` on nearly every host."""
        controllers = root / "cgroup.controllers"
        if controllers.exists():
            # The root group has no quota whose absence would tell of a kernel without them.
            return cls(root, 2, dict.fromkeys(controllers.read_text().split(), root))
        found: dict[str, Path] = {}
        with contextlib.suppress(OSError):
            for entry in sorted(root.iterdir()):
                if (entry / "cgroup.procs").exists():
                    found[entry.name] = entry.resolve()
        has_quotas = "cpu" in found and (found["cpu"] / "cpu.cfs_quota_us").exists()
        return cls(root, 1 if found else 0, found, has_quotas=has_quotas)

    def tops(self) -> list[Path]:
        """Return the top of every hierarchy, each once."""
        return list(dict.fromkeys(self.hierarchies.values()))

    def missing(self) -> list[str]:
        """Return the controllers that are needed and that the host does not have."""
        return [name for name in NEEDED if name not in self.hierarchies]


def children(group: Path) -> set[str]:
    """Return the names of the groups right below one; none for a group that does not exist."""
    try:
        with os.scandir(group) as entries:
            return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
    except FileNotFoundError:
        return set()


def is_populated(group: Path) -> bool:
    """Tell whether there are processes in a group or anywhere below it."""
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(FileNotFoundError):
            if Path(folder, "cgroup.procs").read_bytes().strip():
                return True
    return False


def processes(group: Path) -> set[int]:
    """Return the ids of the processes in a group and everywhere below it."""
    found = set[int]()
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()}
    return found


def of_container(top: Path, container_id: str) -> list[Path]:
    """Return the groups of a container below the top of a hierarchy, wherever its engine has put them."""
    return [
        Path(folder, name)
        for folder, names, _ in os.walk(top)
        for name in names
        if container_id in name
    ]


def remove_tree(group: Path) -> None:
    """Remove a group and those below it, innermost first; an absent one is success.

    Raises:
        OSError: ``EBUSY`` while there are processes in it.
    """
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)  # noqa: PTH106 - a str from os.walk
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
