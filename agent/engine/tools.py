"""The parts that steps use, and the types of their results; no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agent.engine.container_gpus import GpuSettings
from agent.engine.preparations.efs import EfsSettings
from agent.engine.preparations.firelens import FirelensSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence

    from agent.cgroups.groups import TaskGroups
    from agent.engine.host_policy_gate import HostPolicyGate
    from agent.engine.namespace_holders import NamespaceHolders
    from agent.engine.network_reconnect import NetworkReconnect
    from agent.engine.preparations.contract import LogRelay, TaskAws
    from agent.images import ExecutionRole, Obtained, Progress
    from agent.model.lookups import AskControl
    from agent.model.payload import AliasPort, Container, TaskPayload
    from agent.model.task import TaskNetwork
    from agent.network.container_sandboxes.sandboxes import ContainerSandboxes
    from agent.network.names.hosts_files import HostsFiles
    from agent.network.names.resolv_files import ResolvFiles
    from agent.resources.role_credentials import RoleCredentials
    from agent.runtime.protocol import ContainerEngine

Outcome = Callable[[float], None]
"""Records what a step achieved; called with the time, on the runner's turn."""


class RecordWriter(Protocol):
    """The runner of a task, which alone changes its record."""

    def post(self, message: Outcome) -> None:
        """Queue a change of the record for the runner's turn; returns at once."""

    async def saved(self) -> None:
        """Wait until everything posted so far is durable; raises ``StateFailure``."""


@dataclass(frozen=True, slots=True)
class StepSettings:
    """Settings of steps. Times in seconds."""

    cluster: str
    owner: str
    stop_timeout_s: int = 30
    create_limit_s: float = 240.0
    start_limit_s: float = 180.0
    host_policy: HostPolicyGate | None = None
    """What this host refuses; None for nothing."""
    efs: EfsSettings = field(default_factory=EfsSettings)
    firelens: FirelensSettings = field(default_factory=FirelensSettings)
    gpus: GpuSettings = field(default_factory=GpuSettings)

    async def refused_by_host(self, payload: TaskPayload | None) -> str:
        """Return why the host's own policy refuses a task; empty if it may run."""
        if self.host_policy is None or payload is None:
            return ""
        return await self.host_policy.reason_now(payload)


class PortPicker(Protocol):
    """Dynamic host ports; ``protocol`` is ``tcp`` or ``udp``."""

    def pick(self, protocol: str, count: int = 1) -> list[int]:
        """Return and hold that many free consecutive ports; raises ``PayloadError``."""

    def hold(self, protocol: str, ports: Iterable[int]) -> None:
        """Hold ports that an earlier process picked."""

    def release(self, protocol: str, ports: Iterable[int]) -> None:
        """Release ports; free ones are ignored."""


class EnsureImage(Protocol):
    """Gets images; ``images.Images.ensure``."""

    def __call__(
        self,
        container: Container,
        *,
        role: ExecutionRole,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Awaitable[Obtained]:
        """Return digest and name of a container's image once it is on the host."""


class ClaimEni(Protocol):
    """``network.pool.TaskNetworks.claim_eni``."""

    def __call__(
        self, task_arn: str, attachment_id: str, interfaces: Sequence[dict[str, Any]]
    ) -> Awaitable[TaskNetwork]:
        """Return the network of a task once its interface is in its sandbox."""


class MetadataFile(NamedTuple):
    """A container's file with metadata."""

    bind: str
    """How the engine mounts its directory."""
    variables: Mapping[str, str]
    """By which the container finds it."""


class MetadataFiles(Protocol):
    """The files of ``ECS_ENABLE_CONTAINER_METADATA``."""

    async def write(self, payload: TaskPayload, container: str) -> MetadataFile | None:
        """Write what is known before a container is made; None where that fails, which is logged."""

    async def remove(self, task_arn: str) -> None:
        """Remove the files of a task; never fails."""


@dataclass(frozen=True, slots=True)
class StepTools:
    """The parts that steps use; plain functions where one function is enough."""

    runtime: ContainerEngine
    claim_network: Callable[[str, str, Collection[str], str], Awaitable[TaskNetwork]]
    """Give a task, by its ARN, a network with this attachment id and these security groups, and with
    the address that it asks for, if any."""
    release_network: Callable[[str], Awaitable[None]]
    network_alive: Callable[[str], Awaitable[bool]]
    """Return whether containers can join the sandbox that a task holds."""
    container_sandboxes: ContainerSandboxes
    ensure_image: EnsureImage
    ports: PortPicker
    resolv_files: ResolvFiles
    hosts_files: HostsFiles
    reconnecter: NetworkReconnect
    groups: TaskGroups
    namespaces: NamespaceHolders
    role_credentials: RoleCredentials
    aws: TaskAws
    control_secrets: AskControl
    log_relay: LogRelay
    endpoint_variables: Callable[[str, str], Mapping[str, str]]
    """Return the variables by which a container asks the agent, by its task's ARN and its name."""
    claim_eni: ClaimEni | None = None
    """None where interfaces of Amazon ECS are not moved into tasks."""
    lead_alias_ports: Callable[[TaskNetwork, Sequence[AliasPort]], Awaitable[None]] | None = None
    """Have ports of aliases lead to ports of the task; None where no control orders that."""
    metadata_files: MetadataFiles | None = None
    """None where containers have no such files."""
