"""Processes that hold namespaces: their identity, their end, and sockets inside their namespaces.

Reads ``/proc``. Never changes the namespaces of this process: a thread that enters another
namespace does nothing else and ends. Functions that block say so and are called from a thread lane.

Tests: ``tests/integration/network/test_sandbox.py``, ``tests/integration/network/test_life.py``.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from agent.errors import NetworkFailure

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
NETLINK_ROUTE = 0


class Process(NamedTuple):
    """Identifies a process among all that have or had its pid since boot."""

    pid: int
    started_ticks: int
    """Clock ticks between boot and its start."""
    netns: int
    """Inode of its network namespace."""


def identify(pid: int) -> Process | None:
    """Return the process with this pid, or None if there is none. Blocks on ``/proc``."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        netns = Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None
    # The command name in parentheses may itself contain spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        return None
    return Process(pid, int(fields[19]), netns)


def boot_id() -> str:
    """Return the kernel's id of this boot; empty if it has none. Blocks on ``/proc``."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def own_netns() -> int:
    """Return the inode of this process's network namespace. Blocks on ``/proc``."""
    return Path("/proc/self/ns/net").stat().st_ino


def open_netns(process: Process) -> int:
    """Return a descriptor of a process's network namespace. Blocks on ``/proc``.

    Raises:
        NetworkFailure: the process has ended, or it shares our own namespace.
    """
    try:
        descriptor = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetworkFailure(f"process {process.pid} of a sandbox has ended: {error}") from None
    netns = os.fstat(descriptor).st_ino
    if netns != process.netns or netns == own_netns():
        os.close(descriptor)
        raise NetworkFailure(f"process {process.pid} is not in a network namespace of its own")
    return descriptor


async def netlink_socket_in(netns: int) -> socket.socket:
    """Return a routing socket in another namespace.

    A socket stays in the namespace in which it was created, and keeps it alive until it is closed.
    It is created in a separate thread that ends right after, because that thread has left our
    namespace.

    Args:
        netns: descriptor of the namespace; stays open.

    Raises:
        NetworkFailure: the namespace cannot be entered.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[socket.socket] = loop.create_future()

    def deliver(made: socket.socket | None, error: OSError | None) -> None:
        if answer.done():
            if made is not None:
                made.close()
        elif made is not None:
            answer.set_result(made)
        else:
            answer.set_exception(NetworkFailure(f"a network namespace cannot be entered: {error}"))

    def enter() -> None:
        made, failure = None, None
        try:
            _setns(netns)
            # pyroute2 passes the socket to asyncio, which requires the datagram type.
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
            made = socket.socket(socket.AF_NETLINK, kind, NETLINK_ROUTE)
            made.setblocking(False)
        except OSError as error:
            failure = error
        loop.call_soon_threadsafe(deliver, made, failure)

    threading.Thread(target=enter, name="enter-netns", daemon=True).start()
    return await answer


def inside(netns: int, work: Callable[[], T]) -> T:
    """Do something in another network namespace, in a thread of its own; blocks until it is done.

    Args:
        netns: descriptor of the namespace; stays open.
        work: must be quick; what it raises is raised here.

    Raises:
        OSError: the namespace cannot be entered.
    """
    outcome: Future[T] = Future()

    def enter() -> None:
        try:
            _setns(netns)
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            outcome.set_exception(error)

    threading.Thread(target=enter, name="enter-netns", daemon=True).start()
    return outcome.result()


def _setns(netns: int) -> None:
    # os.setns exists only since Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(netns, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class ExitWatch:
    """Reports the end of processes at once, without waiting for the engine to notice.

    Uses process descriptors, which are safe against reused pids. Belongs to one event loop. On a
    kernel without them (before 5.3) nothing is watched and ``add`` returns False.
    """

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def add(self, key: str, process: Process, ended: Callable[[str], None]) -> bool:
        """Call ``ended(key)`` once when the process ends, or soon if it already has."""
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            loop.call_soon(ended, key)
            return True
        except OSError:
            return False
        self.discard(key)
        self._descriptors[key] = descriptor
        loop.add_reader(descriptor, self._fire, key, ended)
        return True

    def __contains__(self, key: str) -> bool:
        """Tell whether the end of this process will be reported."""
        return key in self._descriptors

    def discard(self, key: str) -> None:
        """Stop watching; not an error if the key is unknown."""
        descriptor = self._descriptors.pop(key, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Stop watching all processes."""
        for key in list(self._descriptors):
            self.discard(key)

    def _fire(self, key: str, ended: Callable[[str], None]) -> None:
        self.discard(key)
        ended(key)
