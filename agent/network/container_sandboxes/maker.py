"""Creates sandboxes in the engine, and picks the host ports that these publish.

Tests: ``tests/unit/network/container_sandboxes/test_sandboxes.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from agent.errors import NoSuchImage, PayloadError
from agent.network.container_sandboxes import kinds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.network.container_sandboxes.kinds import Bindings, Kind
    from agent.runtime.protocol import ContainerEngine

_log = structlog.get_logger(__name__)


PORTS_SHARE: Final = 4
"""Ready sandboxes hold at most one part in so many of the dynamic host ports."""


class Ports(Protocol):
    """Dynamic host ports, see ``network.host_ports.HostPorts``."""

    @property
    def size(self) -> int:
        """How many ports there are to pick from."""

    def pick(self, protocol: str, count: int = 1) -> list[int]:
        """Return and promise that many consecutive ports; raises ``PayloadError``."""

    def hold(self, protocol: str, ports: Iterable[int]) -> None:
        """Promise ports that an earlier process picked."""

    def release(self, protocol: str, ports: Iterable[int]) -> None:
        """Cancel promises."""

    def offers(self, port: int) -> bool:
        """Return whether it is one of the ports that are picked from."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Creates the sandboxes of one agent."""

    runtime: ContainerEngine
    owner: str
    image: str
    load_image: Callable[[], Awaitable[object]]
    """Loads the pause image again after it was removed."""
    ports: Ports

    def pick(self, kind: Kind, held: int) -> Bindings:
        """Pick host ports for one sandbox; they are promised until ``release``.

        Args:
            kind: of the sandbox.
            held: how many ports the ready sandboxes have.

        Raises:
            PayloadError: none are left, or the rest is for tasks.
        """
        picked: list[list[int]] = []
        mappings = list(kind.mappings())
        if mappings and held + kind.port_count > self.ports.size // PORTS_SHARE:
            raise PayloadError(f"ready sandboxes have {held} of {self.ports.size} host ports")
        try:
            for numbers, protocol in mappings:
                picked.append(self.ports.pick(protocol, len(numbers)))
        except PayloadError:
            for (_, protocol), hosts in zip(mappings, picked, strict=False):
                self.ports.release(protocol, hosts)
            raise
        return kind.bindings(picked)

    async def create(self, name: str, kind: Kind, bindings: Bindings) -> str:
        """Create a sandbox and return its engine id; loads the pause image if that was removed.

        Raises:
            RuntimeFailure: the engine refused, is down, or did not answer. Then it may exist.
        """
        wanted = kinds.body(self.image, kind, self.owner, bindings)
        try:
            return await self.runtime.create_container(name, wanted)
        except NoSuchImage:
            _log.warning("the pause image was removed; loading it again", image=self.image)
            await self.load_image()
            return await self.runtime.create_container(name, wanted)

    def hold(self, bindings: Bindings) -> None:
        """Promise the ports of a sandbox that an earlier process made."""
        for protocol, hosts in kinds.held_ports(bindings):
            self.ports.hold(protocol, hosts)

    def release(self, bindings: Bindings) -> None:
        """Let others have the ports of a sandbox that nobody took, once it is gone."""
        for protocol, hosts in kinds.held_ports(bindings):
            self.ports.release(protocol, hosts)

    def suits(self, kind: Kind, bindings: Bindings) -> bool:
        """Return whether it would make a sandbox with such ports now."""
        offered = (self.ports.offers(port) for hosts in bindings.values() for port in hosts)
        return kind.fits(bindings) and all(offered)
