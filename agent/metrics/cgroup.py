"""Resource usage of a container, read from its control group.

Reads files below the cgroup mount and ``/proc/<pid>/cgroup``. Everything here blocks briefly, so
call it in a thread. A container that is gone raises ``OSError``; if the host lacks a controller
(``cgroup_disable=memory``), its figures are None.

A container's directory is looked up once and its files stay open: reading an open file again costs
a seventh of opening it. A text that did not change is not parsed again. An open cgroup file keeps
neither the cgroup nor the container alive; reading it fails with ENODEV once they are gone.

Each read of a file costs 3 µs of an idle container, whose data is in no cache. So of a container
whose CPU time has not increased, only that is read which others can change: memory in use (the
kernel takes some back) and block I/O (the kernel writes later), and if one of them changed, the file that
says more of it. All the rest needs a process of the container to run, and was read after it last did.
A file that still changed when it was last read is read again, for example pressure, which fades; and
every file is, at least every ``ALL_S`` seconds. While all that could be told is told by those few files, the
collector watches them (``idle_watch``) and asks no reader.

Tests: ``tests/unit/metrics/test_cgroup.py``.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.metrics import cgroup_texts
from agent.metrics.cgroup_texts import PRESSURE_FILES, V1_FILES, V2_FILES, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALL_S: Final = 30.0
"""For what an operator changes in an idle container, such as a limit."""
_CHANGED_BY_OTHERS: Final = {
    "memory.usage_in_bytes": "memory.stat",
    "memory.current": "memory.stat",
    "blkio.throttle.io_service_bytes_recursive": "blkio.throttle.io_serviced_recursive",
    "io.stat": "",
}
"""Each with the file that belongs to it: figures are made of both."""
READ_BYTES: Final = 16384
"""Larger than any of these files, except ``io.stat`` with hundreds of disks."""

_V1_SHARED_MOUNTS: Final = {
    "cpuacct": ("cpuacct", "cpu,cpuacct", "cpuacct,cpu"),
    "cpu": ("cpu", "cpu,cpuacct", "cpuacct,cpu"),
}


WatchedFile = tuple[int, bytes]
"""A descriptor, and what the file said."""


class RawTexts(NamedTuple):
    """Files of a container as the kernel wrote them; empty where it has none."""

    memory_stat: bytes = b""
    io_bytes: bytes = b""
    """``blkio.throttle.io_service_bytes_recursive`` or, on version 2, ``io.stat``."""
    io_operations: bytes = b""
    """``blkio.throttle.io_serviced_recursive``; empty on version 2."""


class _File:
    """One file: where it is, and what it said when it was read last."""

    __slots__ = ("fading", "fd", "parse", "path", "said", "text")

    def __init__(self, path: Path | None, parse: Callable[[bytes], Any]) -> None:
        self.path = path
        self.parse = parse
        self.fading = True
        """Whether it had changed when it was last read."""
        self.fd = -1
        self.text: bytes | None = None
        self.said: Any = None

    def read(self) -> bool:
        """Read it; return whether it changed. Raises ``OSError``."""
        text = os.pread(self.fd, READ_BYTES, 0)
        self.fading = text != self.text
        if self.fading:
            self.text, self.said = text, self.parse(text)
        return self.fading


class CgroupReader:
    """The open files of one container; not thread-safe."""

    def __init__(self, files: Sequence[_File], *, version: int, keep_open: bool) -> None:
        """Open the files of a container.

        Args:
            files: in the order of the parser, and after them those of pressure.
            version: 1 or 2.
            keep_open: False opens every file for each read, for hosts with few file descriptors.

        Raises:
            OSError: the first file, which every container has, cannot be opened.
        """
        self._files = files
        self._combine = cgroup_texts.usage_v2 if version == 2 else cgroup_texts.usage_v1
        self._raw_places = (2, 10, 10) if version == 2 else (4, 10, 11)
        self._version = version
        self._keep_open = keep_open
        self._usage: Usage | None = None
        self._by_others = _by_others(files)
        known = {file for pair in self._by_others for file in pair}
        self._others = [file for file in files[1:] if file not in known]
        self._fading: list[_File] = []
        """Those of the others that had changed when they were read last."""
        self.due_s = float("-inf")
        """Monotonic time at which all files are to be read again."""
        self.open_files = 0
        """How many descriptors this reader holds."""
        if keep_open:
            try:
                self._open_all()
            except OSError:
                self.close()
                raise

    def read(self) -> Usage:
        """Read all files now; return the same object again if they say the same.

        Raises:
            OSError: the container is gone; close this reader.
        """
        changed = self._read_open() if self._keep_open else self._read_once()
        if changed or self._usage is None:
            said = [file.said for file in self._files]
            places = len(said) - len(PRESSURE_FILES)
            self._usage = self._combine(said[:places], said[places:])
        return self._usage

    @property
    def raw(self) -> RawTexts:
        """Return files as they were when last read."""
        memory, moved, done = (self._files[place].text or b"" for place in self._raw_places)
        return RawTexts(memory, moved, b"" if self._version == 2 else done)

    def watched(self) -> list[WatchedFile] | None:
        """Return the files that tell whether a reading would say anything else before ``due_s``.

        None if these are not enough: a file still changed when it was last read, or none stays open.
        """
        if not self._keep_open or self._fading:
            return None
        files = (self._files[0], *(file for file, _ in self._by_others))
        return [(file.fd, file.text) for file in files if file.text is not None]

    def close(self) -> None:
        """Close every file; may be repeated."""
        for file in self._files:
            if file.fd >= 0:
                os.close(file.fd)
                file.fd = -1
        self.open_files = 0

    def _open_all(self) -> None:
        for index, file in enumerate(self._files):
            if file.path is None:
                continue
            try:
                file.fd = os.open(file.path, os.O_RDONLY)
            except OSError:
                if index == 0:
                    raise
                continue
            self.open_files += 1

    def _read_open(self) -> bool:
        changed, now_s = self._files[0].read(), time.monotonic()
        if changed or now_s >= self.due_s:
            self.due_s = now_s + ALL_S
            for file in self._files[1:]:
                changed |= self._refresh(file)
            self._fading = [file for file in self._others if file.fading]
            return changed
        for file, companion in self._by_others:
            if self._refresh(file):
                changed = True
                if companion is not None:
                    self._refresh(companion)
        if self._fading:
            for file in self._fading:
                changed |= self._refresh(file)
            self._fading = [file for file in self._fading if file.fading]
        return changed

    def _refresh(self, file: _File) -> bool:
        """Read a file that may be missing; return whether it changed."""
        if file.fd < 0:
            file.fading = False
            return False
        try:
            return file.read()
        except OSError:  # for example pressure of a kernel that has switched it off
            os.close(file.fd)
            file.fd, file.text, file.said, file.fading = -1, None, None, False
            self.open_files -= 1
            return True

    def _read_once(self) -> bool:
        for index, file in enumerate(self._files):
            if file.path is None:
                continue
            try:
                fd = os.open(file.path, os.O_RDONLY)
            except OSError:
                if index == 0:
                    raise
                continue
            try:
                file.text = os.read(fd, READ_BYTES)
            finally:
                os.close(fd)
            file.said = file.parse(file.text)
        return True


def _by_others(files: Sequence[_File]) -> list[tuple[_File, _File | None]]:
    """Return the files of a container that others change, each with the one that belongs to it."""
    by_name = {file.path.name: file for file in files if file.path is not None}
    return [
        (by_name[name], by_name.get(companion))
        for name, companion in _CHANGED_BY_OTHERS.items()
        if name in by_name
    ]


class CgroupTree:
    """The cgroup mount of the host: finds the directories of containers in it."""

    def __init__(
        self, root: Path = Path("/sys/fs/cgroup"), *, proc: Path = Path("/proc"), driver: str = ""
    ) -> None:
        """Read the mount once.

        Args:
            root: where the hierarchy, or one directory per controller, is mounted.
            proc: the process file system.
            driver: ``cgroupfs`` or ``systemd``, as the engine names it; empty tries both.
        """
        self.root = root
        self.version = 2 if (root / "cgroup.controllers").exists() else 1
        self._proc = proc
        self._driver = driver
        self._mounts = {name: self._mount(name) for name, _, _ in V1_FILES}
        beside = root / "unified"
        self._unified = beside if (beside / "cgroup.controllers").exists() else None

    def open(
        self, runtime_id: str, *, pid: int, parent: str = "", keep_open: bool = True
    ) -> CgroupReader:
        """Find the files of a running container.

        Args:
            runtime_id: its id in the engine.
            pid: its first process; 0 if unknown.
            parent: path of its task's group, which may or may not be around its own.
            keep_open: see ``CgroupReader``.

        Raises:
            OSError: the hierarchy has no such container.
        """
        for relative in self._candidates(runtime_id, pid, parent):
            files = self._files(relative)
            first = files[0].path
            if first is not None and first.exists():
                return CgroupReader(files, version=self.version, keep_open=keep_open)
        raise FileNotFoundError(f"no control group of container {runtime_id[:12]} in {self.root}")

    def _candidates(self, runtime_id: str, pid: int, parent: str) -> list[str]:
        """List possible paths of the container: the kernel's answer first, then by convention."""
        found = self._of_process(runtime_id, pid)
        by_convention: list[str] = []
        if self._driver != "systemd":
            by_convention += [f"{above}/{runtime_id}" for above in (parent, "docker") if above]
        if self._driver != "cgroupfs":
            scope = f"docker-{runtime_id}.scope"
            by_convention += [f"{above}/{scope}" for above in (parent, "system.slice") if above]
        return [found, *by_convention] if found else by_convention

    def _of_process(self, runtime_id: str, pid: int) -> str:
        """Return the group of a process, up to the element with the container id.

        The path must contain the id: the pid may have been reused, and a container with its own
        init may have moved its processes further down.
        """
        if pid <= 0:
            return ""
        try:
            lines = (self._proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError:
            return ""
        for line in lines:
            path = line.split(":", 2)[-1]
            head, found, tail = path.partition(runtime_id)
            if found and ".." not in path:
                return (head + found + tail.split("/", 1)[0]).lstrip("/")
        return ""

    def _files(self, relative: str) -> list[_File]:
        if self.version == 2:
            files = [_File(self.root / relative / name, parse) for name, parse in V2_FILES]
            pressures: Path | None = self.root
        else:
            files = [
                _File(None if mount is None else mount / relative / name, parse)
                for controller, name, parse in V1_FILES
                for mount in [self._mounts[controller]]
            ]
            pressures = self._unified
        for name in PRESSURE_FILES:
            path = None if pressures is None else pressures / relative / name
            files.append(_File(path, cgroup_texts.pressure))
        return files

    def _mount(self, controller: str) -> Path | None:
        names = _V1_SHARED_MOUNTS.get(controller, (controller,))
        return next((self.root / name for name in names if (self.root / name).is_dir()), None)
