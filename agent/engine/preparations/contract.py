"""The interface that all kinds of preparations have in common; types only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.engine.preparations.efs import EfsSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.model.payload import TaskPayload
    from agent.resources.role_credentials import RoleCredentials
    from agent.runtime.protocol import ContainerEngine


@dataclass(frozen=True, slots=True)
class Provision:
    """What preparations provide for the containers of their task."""

    mount_sources: Mapping[str, str] = field(default_factory=dict)
    """Host path or engine volume, by the name of the task's volume."""

    @classmethod
    def merged(cls, provisions: Iterable[Provision]) -> Provision:
        """Combine what several preparations provide; no two provide the same thing."""
        sources: dict[str, str] = {}
        for provision in provisions:
            sources |= provision.mount_sources
        return cls(mount_sources=sources)


@dataclass(frozen=True, slots=True)
class HostAccess:
    """The parts that preparations use."""

    runtime: ContainerEngine
    owner: str
    """Identifies the agent in a label of everything that it creates."""
    credentials: RoleCredentials
    """Role credentials of all tasks; ``execution_role`` waits for those of one task."""
    efs: EfsSettings = field(default_factory=EfsSettings)
    """How this host reaches EFS file systems."""


class Preparation(Protocol):
    """One kind of preparation; stateless, one object for all tasks."""

    @property
    def name(self) -> str:
        """One word; the key of its step is ``@name``."""

    @property
    def doing(self) -> str:
        """What its step does, for display: "create volumes"."""

    @property
    def is_remote(self) -> bool:
        """Whether it only calls other services: then it is cancelled when its task should stop."""

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Return whether a task needs it. Pure."""

    def check(self, payload: TaskPayload) -> None:
        """Check that the task's wishes can be fulfilled at all. Pure.

        Raises:
            PayloadError: they cannot; the text is the task's reason.
        """

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Prepare the host, before any container of the task is created.

        Idempotent: each process prepares again before it creates a container. An interrupted step
        is repeated from its start.

        Raises:
            PayloadError: it can never work; the task fails.
            AgentError: any other failure, retried if that may help (``engine.failures``).
        """

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Remove what was created, after the task's containers are gone. Idempotent.

        Called for every task that needs it, even if ``prepare`` failed or was never called.
        """
