"""What every kind of preparation has in common: no I/O, nothing but types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.engine.preparations.efs import EfsSettings
from agent.model.payload import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.model.payload import TaskPayload
    from agent.resources.role_credentials import RoleCredentials
    from agent.runtime.protocol import ContainerEngine


Texts = Mapping[str, str]
AskRole = Callable[[Credentials | None], Awaitable[Credentials]]
"""Gives the newest credentials of a task's role, other than these; raises ``CredentialsAwaited``."""
AskControl = Callable[[str, list[str]], Awaitable[Mapping[str, str]]]
"""Gives the values that control keeps for a task, by its ARN and their names.

Raises:
    PayloadError: control does not have one of them, or is of a kind that keeps none.
    ControlFailure: control cannot be asked now.
"""


@dataclass(frozen=True, slots=True)
class Provision:
    """What preparations give to the containers of their task. Shows no values."""

    mount_sources: Mapping[str, str] = field(default_factory=dict)
    """Host path or engine volume by the name of the task's volume."""
    secret_environment: Mapping[str, Texts] = field(default_factory=dict, repr=False)
    """Variables by container, which win over those that the definition sets."""
    file_environment: Mapping[str, Texts] = field(default_factory=dict, repr=False)
    """Variables by container, over which those that the definition sets win."""
    log_options: Mapping[str, Texts] = field(default_factory=dict, repr=False)
    """Options of the log driver by container."""

    @classmethod
    def merged(cls, provisions: Iterable[Provision]) -> Provision:
        """Return what several preparations give together; no two give the same thing."""
        given = list(provisions)
        sources: dict[str, str] = {}
        for provision in given:
            sources |= provision.mount_sources
        return cls(
            mount_sources=sources,
            secret_environment=_by_container(each.secret_environment for each in given),
            file_environment=_by_container(each.file_environment for each in given),
            log_options=_by_container(each.log_options for each in given),
        )

    def secrets(self) -> frozenset[str]:
        """Return every value that an engine's text must not show.

        Those of files are not among them: most are no secrets, and words such as a port number.
        """
        kept = (self.secret_environment, self.log_options)
        return frozenset(
            value for part in kept for texts in part.values() for value in texts.values()
        )


def _by_container(parts: Iterable[Mapping[str, Texts]]) -> dict[str, Texts]:
    whole: dict[str, Texts] = {}
    for part in parts:
        for container, texts in part.items():
            whole[container] = {**whole.get(container, {}), **texts}
    return whole


class TaskAws(Protocol):
    """What AWS keeps for tasks; ``fetching.TaskServices``. An empty region is this host's own.

    Each call raises ``AwsFailure`` or what ``role`` raises, and has a deadline of its own.
    """

    async def parameters(self, role: AskRole, region: str, names: list[str]) -> dict[str, str]:
        """Return the values of parameters by the names asked for; unknown ones lack."""

    async def secret(
        self, role: AskRole, region: str, secret_id: str, *, stage: str = "", version: str = ""
    ) -> str | None:
        """Return the text of a secret; None for one that is binary."""

    async def object(
        self, role: AskRole, region: str, bucket: str, key: str, *, limit_bytes: int
    ) -> bytes:
        """Return an object of S3 that is no larger than ``limit_bytes``."""


@dataclass(frozen=True, slots=True)
class HostAccess:
    """What preparations work with."""

    runtime: ContainerEngine
    owner: str
    """Which agent makes things; a label on each of them."""
    credentials: RoleCredentials
    """Of the roles of all tasks; ``execution_role`` waits for one task's."""
    aws: TaskAws
    control_secrets: AskControl
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

    @property
    def is_remote(self) -> bool:
        """Whether it only asks others: it is ended at once when its task is to stop."""

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
