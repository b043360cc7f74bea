"""What every kind of preparation has in common: no I/O, nothing but types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.engine.preparations.efs import EfsSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.model.payload import TaskPayload
    from agent.runtime.protocol import ContainerEngine


@dataclass(frozen=True, slots=True)
class Provision:
    """What preparations give to the containers of their task."""

    mount_sources: Mapping[str, str] = field(default_factory=dict)
    """Host path or engine volume by the name of the task's volume."""

    @classmethod
    def merged(cls, provisions: Iterable[Provision]) -> Provision:
        """Return what several preparations give together; no two give the same thing."""
        sources: dict[str, str] = {}
        for provision in provisions:
            sources |= provision.mount_sources
        return cls(mount_sources=sources)


@dataclass(frozen=True, slots=True)
class HostAccess:
    """What preparations work with."""

    runtime: ContainerEngine
    owner: str
    """Which agent makes things; a label on each of them."""
    efs: EfsSettings = field(default_factory=EfsSettings)
    """How this host reaches EFS file systems."""


class Preparation(Protocol):
    """One kind of preparation; stateless, one object serves all tasks."""

    @property
    def name(self) -> str:
        """One word; ``@name`` is the key of its step."""

    @property
    def doing(self) -> str:
        """What its step does, for a person: "create volumes"."""

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Tell whether a task needs it. Pure."""

    def check(self, payload: TaskPayload) -> None:
        """Return when what the task wants can be done at all. Pure.

        Raises:
            PayloadError: it cannot; the text is the task's reason.
        """

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Do it, before any container of the task is made.

        Idempotent: each process does it again before it makes a container. A step that was cut short
        is done again from its start.

        Raises:
            PayloadError: it can never work; the task fails.
            AgentError: anything else, tried again where that may help (``engine.failures``).
        """

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Remove what was made, after the task's containers are gone. Idempotent.

        Called for every task that wants it, also when ``prepare`` was refused or never came.
        """
