"""What the agent tells the service manager, in systemd's notification protocol.

One datagram per message to the Unix socket named by ``NOTIFY_SOCKET``. Without that variable nothing
happens at all. Never blocks and never raises: a message that cannot be delivered is dropped, because
no service manager is worth the agent's tasks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from agent import escapes

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_STATUS_LIMIT: Final = 400
"""Characters of a status line that are shown; ``systemctl status`` is read on a terminal."""


class Notifier:
    """A line to the service manager.

    Args:
        address: path of the socket, or ``@name`` for an abstract one; empty for no manager.
        watchdog_s: how long the manager waits for ``alive`` before it ends the process; 0 for ever.
    """

    def __init__(self, address: str = "", *, watchdog_s: float = 0.0) -> None:
        self.watchdog_s = watchdog_s
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._status = ""

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Make one from the variables that the manager has set, and remove them.

        Removed, because they are for this process alone: a child that inherited them could speak in
        its name.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        limit_us = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        meant = pid in {"", str(os.getpid())} and limit_us.isascii() and limit_us.isdecimal()
        return cls(address, watchdog_s=int(limit_us) / 1e6 if meant else 0.0)

    def ready(self) -> None:
        """The agent is up, or up again after a reload."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Say in one line how the agent stands; the same line again is not sent."""
        line = escapes.shown(" ".join(text.split()))
        if len(line) > _STATUS_LIMIT:
            line = f"{line[: _STATUS_LIMIT - 1]}…"
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def reloading(self) -> None:
        """Settings are being read anew; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The agent is on its way out."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Put the watchdog off for another ``watchdog_s``."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError, ValueError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            line.setblocking(False)
            line.sendto(message.encode(errors="replace"), self._address)
