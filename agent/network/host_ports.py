"""Dynamic host ports of bridge tasks.

A port is free if it is not promised to another task and a socket can be bound to it on all
addresses. Binds and closes sockets, and reads the kernel's port range. Source of the rules: Amazon
ECS agent 1.105.1, dynamic host ports (cursor, bind test, contiguous ranges).
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ConfigError, PayloadError
from agent.model import reasons
from agent.network.settings import PORTS_SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KERNEL_RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
FALLBACK_RANGE = (49153, 65535)
_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def kernel_range(path: str = KERNEL_RANGE_FILE) -> tuple[int, int]:
    """Return the kernel's own range of dynamic ports, or ECS's default if it cannot be read."""
    try:
        first, last = Path(path).read_text(encoding="ascii").split()
        return int(first), int(last)
    except (OSError, ValueError):
        return FALLBACK_RANGE


def can_bind(protocol: str, port: int) -> bool:
    """Return whether a port is free on all IPv4 addresses, by binding it and closing it again."""
    with socket.socket(socket.AF_INET, _TYPES[protocol]) as probe:
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - the engine publishes on all addresses
        except OSError:
            return False
    return True


class HostPorts:
    """Picks host ports from a range and remembers which are promised.

    The engine binds a port only when the container starts, so the bind test alone could give the
    same port to two tasks. A port stays promised until ``release``; after a restart ``hold``
    restores the promises. All calls are quick and belong to the event loop's thread.
    """

    def __init__(
        self,
        port_range: tuple[int, int] | None = None,
        *,
        is_free: Callable[[str, int], bool] = can_bind,
    ) -> None:
        """Take the range from the setting; None for the kernel's, which is read now."""
        self._first, self._last = port_range or kernel_range()
        if not 0 < self._first <= self._last <= 65535:
            raise ConfigError(f"{PORTS_SETTING}={self._first}-{self._last} is not a range of ports")
        self._is_free = is_free
        self._cursor = dict.fromkeys(_TYPES, self._last)
        self._promised: dict[str, set[int]] = {protocol: set() for protocol in _TYPES}

    def pick(self, protocol: str, count: int = 1) -> list[int]:
        """Return ``count`` contiguous free ports, in order, and promise them to the caller.

        Raises:
            PayloadError: ``HostConfigError``; no such ports, or no such protocol.
        """
        if protocol not in _TYPES:
            raise PayloadError(
                _error(f"protocol {protocol!r} is not tcp or udp"), name=reasons.HOST_CONFIG
            )
        # From the port after the last one to the end of the range, then from its start.
        after = self._cursor[protocol] + 1
        run = self._search(protocol, count, after, self._last) or self._search(
            protocol, count, self._first, min(after + count - 2, self._last)
        )
        if run is None:
            raise PayloadError(_error(self._none_left(protocol, count)), name=reasons.HOST_CONFIG)
        self._cursor[protocol] = run[-1]
        self._promised[protocol].update(run)
        return list(run)

    def hold(self, protocol: str, ports: Iterable[int]) -> None:
        """Promise ports that were picked before a restart."""
        self._promised[protocol].update(ports)

    def release(self, protocol: str, ports: Iterable[int]) -> None:
        """Cancel promises; not an error for ports that were not promised."""
        self._promised[protocol].difference_update(ports)

    @property
    def size(self) -> int:
        """How many ports there are to pick from."""
        return self._last - self._first + 1

    def offers(self, port: int) -> bool:
        """Return whether a port is in the range from which ports are picked."""
        return self._first <= port <= self._last

    def _search(self, protocol: str, count: int, first: int, last: int) -> range | None:
        """Return the first run of free ports within the bounds."""
        start = first
        for port in range(first, last + 1):
            if port in self._promised[protocol] or not self._is_free(protocol, port):
                start = port + 1
            elif port - start + 1 >= count:
                return range(start, port + 1)
        return None

    def _none_left(self, protocol: str, count: int) -> str:
        what = "host port" if count == 1 else f"{count} contiguous host ports"
        return f"no {what} available for {protocol} in {self._first}-{self._last}"


def _error(text: str) -> str:
    return f"error retrieving docker port map: {text}"
