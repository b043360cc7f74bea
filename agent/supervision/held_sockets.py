"""Listening sockets that outlive the agent: whoever calls while it restarts waits, and is not refused.

The service manager keeps a copy of each (``FileDescriptorStoreMax=``) and hands them to the next process;
so does ``ecs-agent standalone`` for its agent. Without either they live as long as this process, which keeps
them over a reload of its settings.
Source of the protocol: sd_listen_fds(3), sd_pid_notify_with_fds(3).
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final, Self

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from agent.supervision.notify import Notifier

TASKS: Final = "credentials"
"""Name of the socket that tasks and the engine's log driver call. It says what the first version of it was
for, because the service manager may still hold that one."""
LOGS: Final = "logs"
"""Name of the socket to which the engine's log driver sends logs."""
FROM_PARENT: Final = "ECS_AGENT_HELD_SOCKETS"
"""Variable by which a parent of ours hands sockets to the agent: ``name=descriptor``, comma-separated."""
_FIRST_DESCRIPTOR: Final = 3
_MOST: Final = 1 << 20
_BACKLOG: Final = 1024
_IP_FREEBIND: Final = 15

_log = structlog.get_logger(__name__)


class HeldSockets:
    """The sockets of one process, by name. Calls return at once."""

    def __init__(self, notifier: Notifier, held: dict[str, socket.socket]) -> None:
        """Take what ``take`` found."""
        self._notifier = notifier
        self._held = held

    @classmethod
    def take(cls, environ: MutableMapping[str, str], notifier: Notifier) -> Self:
        """Take over what a manager or parent hands to this process, and remove their variables.

        What is not a listening TCP socket with a name is closed.
        """
        held: dict[str, socket.socket] = {}
        for name, descriptor in (*_of_manager(environ), *_of_parent(environ)):
            taken = _adopted(descriptor)
            if taken is None:
                continue
            if name in held or not name:
                taken.close()
            else:
                held[name] = taken
        return cls(notifier, held)

    def for_child(self) -> tuple[dict[str, str], list[int]]:
        """Return the variables and descriptors that hand all sockets to a child of this process."""
        numbers = {name: held.fileno() for name, held in self._held.items()}
        text = ",".join(f"{name}={number}" for name, number in numbers.items())
        return ({FROM_PARENT: text} if text else {}), list(numbers.values())

    def listening(self, name: str, host: str, port: int) -> socket.socket:
        """Return a copy of a listening socket, for the caller to close; binds it where none is held.

        Args:
            name: letters and dashes; the same in every process of the agent.
            host: an IPv4 address of this host, or one that it is about to get.
            port: of TCP.

        Raises:
            OSError: it cannot be bound.
        """
        held = self._held.get(name)
        if held is not None and held.getsockname() != (host, port):
            self.drop(name)
            held = None
        if held is None:
            held = _bound(host, port)
            self._held[name] = held
            self._notifier.store(name, held.fileno())
        return held.dup()

    def drop(self, name: str) -> None:
        """Hold a socket no longer; one that is not held is ignored."""
        held = self._held.pop(name, None)
        if held is not None:
            self._notifier.forget(name)
            held.close()

    def close(self) -> None:
        """Close the copies of this process; those of the manager live on."""
        for held in self._held.values():
            held.close()
        self._held.clear()


def _of_manager(environ: MutableMapping[str, str]) -> list[tuple[str, int]]:
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    is_meant = environ.pop("LISTEN_PID", "") == str(os.getpid())
    if not (is_meant and count.isascii() and count.isdecimal() and len(count) < 5):
        return []
    return [
        (names[index] if index < len(names) else "", _FIRST_DESCRIPTOR + index)
        for index in range(int(count))
    ]


def _of_parent(environ: MutableMapping[str, str]) -> list[tuple[str, int]]:
    pairs = [item.partition("=") for item in environ.pop(FROM_PARENT, "").split(",")]
    return [
        (name, int(number))
        for name, _, number in pairs
        if number.isascii() and number.isdecimal() and _FIRST_DESCRIPTOR <= int(number) < _MOST
    ]


def _adopted(descriptor: int) -> socket.socket | None:
    """Return a listening TCP socket; close anything else."""
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return None
    if taken.family == socket.AF_INET and taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        taken.setblocking(False)
        return taken
    _log.warning("a descriptor from the service manager is not a listening socket", fd=descriptor)
    taken.close()
    return None


def _bound(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        made.setblocking(False)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made
