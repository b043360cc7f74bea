"""What steps work with, and what they give back: types alone, no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.engine.preparations.efs import EfsSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from agent.engine.network_reconnect import NetworkReconnect
    from agent.images import Progress
    from agent.model.payload import Container
    from agent.model.task import TaskNetwork
    from agent.network.resolv_files import ResolvFiles
    from agent.runtime.protocol import ContainerEngine

Outcome = Callable[[float], None]
"""Writes what a step achieved into the record; called with the time, on the runner's turn."""


class RecordWriter(Protocol):
    """Who alone changes the record of a task: its runner."""

    def post(self, message: Outcome) -> None:
        """Have something written into the record on the runner's turn; returns at once."""

    async def saved(self) -> None:
        """Return when everything posted so far is durable; raises ``StateFailure``."""


@dataclass(frozen=True, slots=True)
class StepSettings:
    """Settings that change how steps are done. Seconds."""

    cluster: str
    owner: str
    stop_timeout_s: int = 30
    create_limit_s: float = 240.0
    start_limit_s: float = 180.0
    privileged_allowed: bool = True
    efs: EfsSettings = field(default_factory=EfsSettings)


class PortPicker(Protocol):
    """Dynamic host ports; ``protocol`` is ``tcp`` or ``udp``."""

    def pick(self, protocol: str, count: int = 1) -> list[int]:
        """Return that many free ports in a row and hold them; raises ``PayloadError``."""

    def hold(self, protocol: str, ports: Iterable[int]) -> None:
        """Hold ports that were picked in an earlier life of this process."""

    def release(self, protocol: str, ports: Iterable[int]) -> None:
        """Give ports back; free ones are ignored."""


@dataclass(frozen=True, slots=True)
class StepTools:
    """What steps work with; functions where one is all that is needed."""

    runtime: ContainerEngine
    claim_network: Callable[[str, str], Awaitable[TaskNetwork]]
    release_network: Callable[[str], Awaitable[None]]
    network_alive: Callable[[str], Awaitable[bool]]
    """Tell whether the sandbox that a task holds is one that a container can join."""
    ensure_image: Callable[[Container, Callable[[Progress], None]], Awaitable[str]]
    ports: PortPicker
    resolv_files: ResolvFiles
    reconnecter: NetworkReconnect
