"""Messages to the service manager, in systemd's notification protocol.

Sends one datagram per message to the Unix socket in ``NOTIFY_SOCKET``. Without that variable it
does nothing. Never blocks and never raises: a message that cannot be delivered is dropped, because
the agent's tasks matter more.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from agent import escapes

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_STATUS_LIMIT: Final = 400
"""Maximum length of a status line; ``systemctl status`` shows it on a terminal."""


class Notifier:
    """The connection to the service manager.

    Args:
        address: path of the socket, or ``@name`` for an abstract one; empty for no manager.
        watchdog_s: how long the manager waits for ``alive`` before it ends the process; 0 means
            forever.
    """

    def __init__(self, address: str = "", *, watchdog_s: float = 0.0) -> None:
        self.watchdog_s = watchdog_s
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._status = ""

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Create a notifier from the manager's variables, and remove them from ``environ``.

        They are only for this process: a child that inherited them could send messages in its name.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        limit_us = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        meant = pid in {"", str(os.getpid())} and limit_us.isascii() and limit_us.isdecimal()
        return cls(address, watchdog_s=int(limit_us) / 1e6 if meant else 0.0)

    def ready(self) -> None:
        """Report that the agent is up, or up again after a reload."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Send the agent's state in one line; one that was delivered is not sent again."""
        line = escapes.shown(" ".join(text.split()))
        if len(line) > _STATUS_LIMIT:
            line = f"{line[: _STATUS_LIMIT - 1]}…"
        if line != self._status and self._send(f"STATUS={line}"):
            self._status = line

    def reloading(self) -> None:
        """Report that the agent reloads its settings; ``ready`` ends this state."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the agent is stopping."""
        self._send("STOPPING=1")

    def extend_stop(self, seconds: float) -> None:
        """Ask the manager to wait so much longer, from now on, before it kills this process."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def alive(self) -> None:
        """Feed the watchdog, which then waits for another ``watchdog_s``."""
        self._send("WATCHDOG=1")

    def store(self, name: str, descriptor: int) -> None:
        """Have the manager keep a copy of a descriptor for the next process, under a name."""
        self._send(f"FDSTORE=1\nFDNAME={name}", descriptor)

    def forget(self, name: str) -> None:
        """Have the manager close its copies under a name."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def _send(self, message: str, *descriptors: int) -> bool:
        """Return whether the manager has the message; not where its queue is full."""
        if not self._address:
            return False
        with (
            contextlib.suppress(OSError, ValueError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            line.setblocking(False)
            text = message.encode(errors="replace")
            rights = array.array("i", descriptors)
            # Not with ``socket.send_fds``, which drops the address.
            along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
            line.sendmsg([text], along, 0, self._address)
            return True
        return False
