"""The interface that all kinds of preparations have in common; types only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agent.engine.preparations.efs import EfsSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.cgroups.groups import TaskGroups
    from agent.engine.host_policy_gate import HostPolicyGate
    from agent.engine.namespace_holders import NamespaceHolders
    from agent.engine.preparations.firelens import FirelensSettings
    from agent.model.lookups import AskControl, AskRole
    from agent.model.payload import TaskPayload
    from agent.resources.role_credentials import RoleCredentials
    from agent.runtime.protocol import ContainerEngine


Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Provision:
    """What preparations provide for the containers of their task. Its repr shows no values."""

    mount_sources: Mapping[str, str] = field(default_factory=dict)
    """Host path or engine volume, by the name of the task's volume."""
    secret_environment: Mapping[str, Texts] = field(default_factory=dict, repr=False)
    """Variables by container; they override those in the definition."""
    file_environment: Mapping[str, Texts] = field(default_factory=dict, repr=False)
    """Variables by container; those in the definition override them."""
    environment: Mapping[str, Texts] = field(default_factory=dict)
    """Variables by container that are not secrets; they override those in the definition."""
    binds: Mapping[str, list[str]] = field(default_factory=dict)
    """What is mounted besides the task's volumes, by container, as the engine writes it."""
    log_options: Mapping[str, Texts] = field(default_factory=dict, repr=False)
    """Options of the log driver, by container."""
    log_configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The engine's ``LogConfig`` in place of the one in the definition, by container."""
    cgroup_parent: str = ""
    """Control group for those of the containers, as the engine names it; empty for the engine's own."""
    namespaces: str = ""
    """Engine id of the container that holds the namespaces they share; empty if it is the sandbox."""
    memory_mib: int = 0
    """Memory limit of containers that have none of their own; 0 for none."""

    @classmethod
    def merged(cls, provisions: Iterable[Provision]) -> Provision:
        """Combine what several preparations provide; no two provide the same thing."""
        given = list(provisions)
        sources: dict[str, str] = {}
        for provision in given:
            sources |= provision.mount_sources
        return cls(
            mount_sources=sources,
            secret_environment=_by_container(each.secret_environment for each in given),
            file_environment=_by_container(each.file_environment for each in given),
            environment=_by_container(each.environment for each in given),
            binds={name: b for each in given for name, b in each.binds.items()},
            log_options=_by_container(each.log_options for each in given),
            log_configs={name: c for each in given for name, c in each.log_configs.items()},
            cgroup_parent=next((each.cgroup_parent for each in given if each.cgroup_parent), ""),
            namespaces=next((each.namespaces for each in given if each.namespaces), ""),
            memory_mib=max((each.memory_mib for each in given), default=0),
        )

    def secrets(self) -> frozenset[str]:
        """Return every value that an engine's text must not show.

        Those of files are not among them: most are not secrets, and words such as a port number.
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


class LogRelay(Protocol):
    """The agent's own log backend, for logs that our control keeps."""

    @property
    def endpoint(self) -> str:
        """Its URL, for the engine."""

    def credentials_id(self, task_arn: str, *, create_group: bool) -> str:
        """Return the id by which the engine gets the keys of a task; always the same one."""

    async def cloudwatch_endpoint(self, region: str) -> str:
        """Return the URL of CloudWatch Logs for the driver; empty where it finds that by itself."""


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
    """The parts that preparations use."""

    runtime: ContainerEngine
    owner: str
    """Identifies the agent in a label of everything that it creates."""
    groups: TaskGroups
    """Control groups of tasks."""
    namespaces: NamespaceHolders
    """Containers that hold namespaces of tasks."""
    credentials: RoleCredentials
    """Role credentials of all tasks; ``execution_role`` waits for those of one task."""
    aws: TaskAws
    control_secrets: AskControl
    log_relay: LogRelay
    firelens: FirelensSettings
    efs: EfsSettings = field(default_factory=EfsSettings)
    """How this host reaches EFS file systems."""
    host_policy: HostPolicyGate | None = None
    """What this host refuses; None for nothing."""


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
