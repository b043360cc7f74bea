"""Which process listens on which port, from the kernel's tables. Only reads.

Tests: ``tests/unit/doctor/checks/test_ports.py``.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTEN = "0A"


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """A TCP port with a listener."""

    port: int
    inode: int
    pid: int = 0
    """0 if the process is unknown: it ended, or is not visible to us."""
    name: str = ""
    """Name of the process."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of this host."""

    pid: int
    name: str
    words: tuple[str, ...]
    """Its command line. May contain secrets: use it for decisions, but never show it."""
    in_container: bool = False


def listening(table: str) -> list[tuple[int, int]]:
    """Return port and inode of each listener in a ``/proc/net/tcp``. Pure."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            found.append((int(fields[1].rpartition(":")[2], 16), int(fields[9])))
    return found


def listeners(proc: Path, ports: frozenset[int]) -> list[Listener] | None:
    """Return the listeners on these ports; None if the kernel's tables cannot be read. Blocks."""
    tables = [_text(proc / "net" / name) for name in ("tcp", "tcp6")]
    if not any(tables):
        return None
    found = {inode: port for table in tables for port, inode in listening(table) if port in ports}
    owners = _owners(proc, frozenset(found)) if found else {}
    return [
        Listener(
            port=port,
            inode=inode,
            pid=owners.get(inode, 0),
            name=_text(proc / str(owners[inode]) / "comm").strip() if inode in owners else "",
        )
        for inode, port in sorted(found.items(), key=lambda item: item[1])
    ]


def processes(proc: Path) -> list[Process]:
    """Return every visible process except kernel threads. Blocks."""
    own = _namespace(proc / "self")
    found = []
    for pid in _pids(proc):
        words = tuple(_text(proc / str(pid) / "cmdline").rstrip("\0").split("\0"))
        if words == ("",):
            continue
        inside = _namespace(proc / str(pid))
        found.append(
            Process(
                pid=pid,
                name=_text(proc / str(pid) / "comm").strip(),
                words=words,
                in_container=bool(own and inside) and own != inside,
            )
        )
    return found


def _owners(proc: Path, inodes: frozenset[int]) -> dict[int, int]:
    """Return the process that owns each socket, as far as it is visible."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, int] = {}
    for pid in _pids(proc):
        directory = proc / str(pid) / "fd"
        with contextlib.suppress(OSError):
            for entry in os.scandir(directory):
                with contextlib.suppress(OSError):
                    inode = names.get(str(Path(entry.path).readlink()))
                    if inode is not None:
                        owners.setdefault(inode, pid)
    return owners


def _pids(proc: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from sorted(int(entry.name) for entry in os.scandir(proc) if entry.name.isdigit())


def _namespace(process: Path) -> str:
    """Return the PID namespace of a process; empty if unknown."""
    with contextlib.suppress(OSError):
        return str((process / "ns/pid").readlink())
    return ""


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_bytes()[:65536].decode("utf-8", errors="replace")
    return ""
