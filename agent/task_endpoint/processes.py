"""The processes of a container: which of them have a socket, and in which network namespaces they are.

Found by the container's control group, so that a container is known from its first process on, without the
engine. Reads the cgroup mount and ``/proc``; everything here blocks and runs in a thread of the caller.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.cgroups.mount import CgroupMount

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent.engine.task_places import ContainerPlace

_MOST_NAMESPACES: Final = 8
"""Network namespaces of one container that are looked at; an ordinary one has a single one."""


class ContainerProcesses:
    """Finds processes of containers on one host."""

    def __init__(self, mount: CgroupMount, proc: Path = Path("/proc")) -> None:
        """Take where control groups and processes are."""
        self._tops = mount.tops()
        self._proc = proc

    @classmethod
    def open(cls, cgroup_root: Path) -> ContainerProcesses:
        """Look at what is mounted; blocks."""
        return cls(CgroupMount.find(cgroup_root))

    def pids(self, place: ContainerPlace) -> list[int]:
        """Return the processes of a container; none if it does not run."""
        for top in self._tops:
            for relative in _candidates(place):
                found = _pids_below(top / relative)
                if found:
                    return found
        return [place.pid] if place.pid and self._is_of(place.pid, place.runtime_id) else []

    def has_socket(self, place: ContainerPlace, inode: int) -> bool:
        """Return whether a process of a container has a socket open."""
        wanted = f"socket:[{inode}]"
        return any(wanted in self._open_files(pid) for pid in self.pids(place))

    def is_held_outside(self, places: Iterable[ContainerPlace], inode: int) -> bool:
        """Return whether a process that is in none of these containers has a socket open.

        That none of theirs was seen with it does not say so: they may pass it on at that moment.
        """
        wanted = f"socket:[{inode}]"
        runtime_ids = [place.runtime_id for place in places]
        return any(wanted in self._open_files(pid) for pid in self._outside(runtime_ids))

    def _outside(self, runtime_ids: Sequence[str]) -> Iterator[int]:
        with os.scandir(self._proc) as entries:
            for entry in entries:
                groups = self._groups(int(entry.name)) if entry.name.isdecimal() else ""
                if groups and not any(runtime_id in groups for runtime_id in runtime_ids):
                    yield int(entry.name)

    def network_namespaces(self, place: ContainerPlace) -> list[int]:
        """Return descriptors of the network namespaces of a container, other than our own.

        The caller closes them.
        """
        own = (self._proc / "self/ns/net").stat().st_ino
        opened: dict[int, int] = {}
        for pid in self.pids(place):
            path = self._proc / str(pid) / "ns/net"
            try:
                if path.stat().st_ino in {own, *opened}:
                    continue
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # it has ended
            netns = os.fstat(descriptor).st_ino
            # Another process may have got the pid in the meantime.
            if netns in {own, *opened} or not self._is_of(pid, place.runtime_id):
                os.close(descriptor)
                continue
            opened[netns] = descriptor
            if len(opened) == _MOST_NAMESPACES:
                break
        return list(opened.values())

    def _is_of(self, pid: int, runtime_id: str) -> bool:
        return runtime_id in self._groups(pid)

    def _groups(self, pid: int) -> str:
        """Return the control groups of a process; empty if it has ended."""
        try:
            return (self._proc / str(pid) / "cgroup").read_text()
        except OSError:
            return ""

    def _open_files(self, pid: int) -> Iterator[str]:
        folder = self._proc / str(pid) / "fd"
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    yield os.readlink(entry.path)  # noqa: PTH115 - there may be thousands


def _candidates(place: ContainerPlace) -> list[str]:
    """Return where the engine's drivers ``cgroupfs`` and ``systemd`` put a container's group. Pure."""
    scope = f"docker-{place.runtime_id}.scope"
    return [
        *(f"{above}/{place.runtime_id}" for above in (place.group, "docker") if above),
        *(f"{above}/{scope}" for above in (place.group, "system.slice") if above),
    ]


def _pids_below(group: Path) -> list[int]:
    """Return the processes of a group and of those that a container made below its own."""
    found: list[int] = []
    for folder, _, _ in os.walk(group):
        with contextlib.suppress(OSError):
            found += map(int, Path(folder, "cgroup.procs").read_text().split())
    return found
