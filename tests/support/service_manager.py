"""A stand-in for systemd: receives the notifications of a service."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_NO_STATES = ("STATUS=", "WATCHDOG=", "FDSTORE")


class ServiceManager:
    """The receiving end of ``NOTIFY_SOCKET``, for real processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[tuple[float, str]] = []
        """Every message with the monotonic time at which it was read."""
        self.held: dict[str, int] = {}
        """Descriptors that the service stored, by name."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def close(self) -> None:
        """Stop listening, and let go of what is held."""
        self._socket.close()
        for descriptor in self.held.values():
            os.close(descriptor)

    def variables(self, *, watchdog_s: float = 0.0) -> dict[str, str]:
        """Return the environment that a manager gives a service."""
        found = {"NOTIFY_SOCKET": str(self.path)}
        if watchdog_s:
            found["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))
        return found

    def messages(self) -> list[str]:
        """Return every message so far, oldest first."""
        while True:
            try:
                raw, descriptors, _, _ = socket.recv_fds(self._socket, 8192, 8)
            except BlockingIOError:
                return [text for _, text in self.said]
            self.said.append((time.monotonic(), raw.decode()))
            self._hold(raw.decode(), descriptors)

    def _hold(self, message: str, descriptors: list[int]) -> None:
        fields = dict(line.partition("=")[::2] for line in message.splitlines())
        name = fields.get("FDNAME", "")
        if "FDSTOREREMOVE" in fields and name in self.held:
            os.close(self.held.pop(name))
        for descriptor in descriptors:
            self.held[name] = descriptor

    def forget(self) -> None:
        """Forget all messages so far."""
        self.messages()
        self.said.clear()

    @property
    def status(self) -> str:
        """The latest status line."""
        lines = [m.removeprefix("STATUS=") for m in self.messages() if m.startswith("STATUS=")]
        return lines[-1] if lines else ""

    def states(self) -> list[str]:
        """Return the messages on the service's state, without accompanying fields."""
        said = [message.partition("\n")[0] for message in self.messages()]
        return [m for m in said if not m.startswith(_NO_STATES)]

    def wait_for(self, *states: str, within_s: float = 60.0) -> None:
        """Return once the service has sent exactly these messages, in this order."""

        def done() -> bool:
            return self.states() == list(states)

        try:
            eventually(done, within_s=within_s, what=f"{states}")
        except AssertionError:
            raise AssertionError(f"wanted {states}, got {self.messages()}") from None


@contextlib.contextmanager
def service_manager(directory: Path) -> Iterator[ServiceManager]:
    """Listen for the duration of a test."""
    manager = ServiceManager(directory / "notify")
    try:
        yield manager
    finally:
        manager.close()
