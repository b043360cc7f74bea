"""The task payload: what control orders, in the form of the ACS ``Task``.

Field names, types and defaults follow the ACS model of Amazon ECS agent 1.105.1
(``ecs-agent/acs/model``). Unknown fields are ignored; a wrong type raises ``PayloadError`` for that
task alone. Credentials are decoded, passed on and never written: ``without_secrets`` keeps their
ids.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct, field

from agent.errors import BAD_JSON, PayloadError
from agent.model import reasons
from agent.model.security_groups import GROUPS_DETAIL
from agent.model.status import Condition, DesiredStatus, NetworkMode

Whole: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""An integer that every part of the agent can handle; no real order has a larger one."""
Share: TypeAlias = Annotated[float, Meta(ge=-1e9, le=1e9)]


class _Wire(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all payload types: immutable, camelCase, defaults omitted when encoded."""


class PortMapping(_Wire, frozen=True):
    """One published port, or an equally long range of ports."""

    container_port: Whole = 0
    host_port: Whole = 0
    """0 asks the agent to pick one from the dynamic range."""
    protocol: Literal["tcp", "udp"] | None = "tcp"
    container_port_range: str | None = None
    """``first-last``; set instead of ``container_port``."""


class MountPoint(_Wire, frozen=True):
    """Where a container mounts one of the task's volumes."""

    source_volume: str = ""
    container_path: str = ""
    read_only: bool = False


class VolumeFrom(_Wire, frozen=True):
    """Mount everything that another container mounts."""

    source_container: str
    read_only: bool = False


class Dependency(_Wire, frozen=True):
    """Another container of the task and the condition to wait for."""

    container_name: str
    condition: Condition


class EngineConfig(_Wire, frozen=True):
    """Docker API bodies that override what the agent generates.

    Amazon ECS sends each as JSON text, our control endpoint as an object. ``decode`` turns both
    into objects. Text that remains is not a JSON object; its container is refused when it is built.
    """

    version: str | None = None
    config: dict[str, Any] | str | None = None
    host_config: dict[str, Any] | str | None = None


class RestartPolicy(_Wire, frozen=True):
    """When the agent starts a stopped container again by itself."""

    enabled: bool = False
    ignored_exit_codes: list[Whole] = field(default_factory=list)
    restart_attempt_period: Whole = 0
    """Seconds that a container must have run before it may be restarted."""


class Secret(_Wire, frozen=True):
    """A reference to a secret value; the value itself is never part of a payload."""

    name: str = ""
    value_from: str = ""
    region: str | None = None
    container_path: str | None = None
    type: str | None = None
    provider: str | None = None
    """Who of AWS keeps it: ``ssm`` or ``asm``."""
    target: str | None = None
    endpoint: str | None = None
    """``control`` for one that control keeps itself; ours, and of no other control."""


class RoleType(StrEnum):
    """Which of a task's roles credentials are of."""

    APPLICATION = "TaskApplication"
    """The task role, which containers use."""
    EXECUTION = "TaskExecution"
    """The execution role, which the agent uses to start the task."""


class Credentials(_Wire, frozen=True):
    """Role credentials of a task. Kept in memory only."""

    credentials_id: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    role_arn: str = ""
    expiration: str = ""

    def __repr__(self) -> str:
        """Hide the secrets from logs and tracebacks."""
        return f"Credentials(credentials_id={self.credentials_id!r}, role_arn={self.role_arn!r})"


class GpuShare(_Wire, frozen=True):
    """A container's part of a GPU that it shares with others by MPS."""

    memory: Whole = 0
    """MiB."""
    max_compute_percent: Whole = 0
    """0 means no limit."""


class Container(_Wire, frozen=True):
    """One container of a task."""

    name: str
    image: str
    container_arn: str = ""
    command: list[str] | None = None
    entry_point: list[str] | None = None
    cpu: Whole = 0
    """CPU units, 1024 to a core."""
    memory: Whole = 0
    """Hard limit in MiB; 0 means no limit."""
    essential: bool = True
    privileged: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    environment_files: list[dict[str, str]] = field(default_factory=list)
    depends_on: list[Dependency] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    volumes_from: list[VolumeFrom] = field(default_factory=list)
    mount_points: list[MountPoint] = field(default_factory=list)
    port_mappings: list[PortMapping] = field(default_factory=list)
    docker_config: EngineConfig = field(default_factory=EngineConfig)
    overrides: str | dict[str, Any] | None = None
    """Only ``command`` is allowed; as JSON text or as an object."""
    health_check_type: str | None = None
    """``docker`` if the agent must report the health."""
    start_timeout: Whole = 0
    """Seconds that others wait for this container's condition; 0 means no limit."""
    stop_timeout: Whole = 0
    """Seconds between SIGTERM and SIGKILL; 0 means the agent's default."""
    restart_policy: RestartPolicy | None = None
    registry_authentication: dict[str, Any] | None = None
    secrets: list[Secret] = field(default_factory=list)
    firelens_configuration: dict[str, Any] | None = None
    logs_auth_strategy: str | None = None
    """``ExecutionRole`` if the ``awslogs`` driver writes with the task's execution role."""
    log_destination: str | None = None
    """Ours: ``control`` if the agent takes the logs of the ``awslogs`` driver to control."""
    version_consistency: str | None = None
    """``disabled``: the image is what its tag names at each pull. Ours; Amazon ECS does not send it."""
    gpu_share: GpuShare | None = None
    """Ours: the GPU that an association names is shared."""
    managed_agents: list[dict[str, Any]] = field(default_factory=list)


class HostVolume(_Wire, frozen=True):
    """A path on the host; empty for a volume that lives as long as the task."""

    source_path: str = ""


class Volume(_Wire, frozen=True):
    """A volume of the task."""

    name: str
    type: str | None = None
    host: HostVolume | None = None
    docker_volume_configuration: dict[str, Any] | None = None
    efs_volume_configuration: dict[str, Any] | None = None


class AssociationContent(_Wire, frozen=True):
    """What containers are told of an association."""

    encoding: str = ""
    value: str = ""


class Association(_Wire, frozen=True):
    """A device assigned to containers of the task; ``gpu`` names a GPU by its UUID."""

    name: str = ""
    type: str = ""
    containers: list[str] = field(default_factory=list)
    content: AssociationContent | None = None


class Attachment(_Wire, frozen=True):
    """Something that control attached to the task, for example its network interface."""

    attachment_arn: str = ""
    attachment_type: str = ""
    attachment_properties: list[dict[str, str]] = field(default_factory=list)

    @property
    def security_groups(self) -> tuple[str, ...]:
        """Ids of the groups of a network interface, as our own control orders them."""
        values = (
            p.get("value") for p in self.attachment_properties if p.get("name") == GROUPS_DETAIL
        )
        return tuple(each for value in values if value for each in value.split(",") if each)


class AliasPort(_Wire, frozen=True):
    """A port of an alias of Service Connect that leads to another port of the task."""

    port: Whole
    container_port: Whole


class TaskPayload(_Wire, frozen=True):
    """One task as control orders it."""

    arn: str
    family: str = ""
    version: str = ""
    desired_status: DesiredStatus = DesiredStatus.RUNNING
    containers: list[Container] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    associations: list[Association] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    elastic_network_interfaces: list[dict[str, Any]] = field(default_factory=list)
    network_mode: str | None = None
    """A ``NetworkMode``; empty and absent mean bridge."""
    pid_mode: str | None = None
    ipc_mode: str | None = None
    cpu: Share = 0.0
    """Task limit in vCPUs; 0 for none."""
    memory: Whole = 0
    """Task limit in MiB; 0 for none."""
    group: str = ""
    service_name: str = ""
    launch_type: str = ""
    task_cluster_arn: str = ""
    role_credentials: Credentials | None = None
    execution_role_credentials: Credentials | None = None
    enable_fault_injection: bool = False
    proxy_configuration: dict[str, Any] | None = None
    connect_namespace: str = ""
    """Ours: id of the namespace whose names of Service Connect the task finds; empty without Service Connect."""
    alias_ports: list[AliasPort] = field(default_factory=list)
    """Ours: where others reach it by Service Connect at another port than that of the container."""

    @property
    def mode(self) -> NetworkMode:
        """The network mode; nothing given means bridge."""
        return NetworkMode(self.network_mode or "bridge")

    def container(self, name: str) -> Container | None:
        """Return the container with this name, or None."""
        return next((c for c in self.containers if c.name == name), None)

    def without_secrets(self) -> TaskPayload:
        """Return the payload as it may be written to disk.

        Which credentials a task has stays in it, so that a new process knows which to wait for.
        """
        return msgspec.structs.replace(
            self,
            role_credentials=_named(self.role_credentials),
            execution_role_credentials=_named(self.execution_role_credentials),
        )


def _named(credentials: Credentials | None) -> Credentials | None:
    """Return the parts of credentials that may be stored: id and role; None without an id."""
    if credentials is None or not credentials.credentials_id:
        return None
    return Credentials(credentials_id=credentials.credentials_id, role_arn=credentials.role_arn)


class _ArnOnly(Struct):
    arn: str = ""


_decoder = msgspec.json.Decoder(TaskPayload)
_arn_decoder = msgspec.json.Decoder(_ArnOnly)
encode = msgspec.json.Encoder().encode


def decode(raw: bytes | msgspec.Raw) -> TaskPayload:
    """Decode one task.

    Raises:
        PayloadError: a field has the wrong type, or a name is missing or used twice; the text gives
            the path of the field.
    """
    try:
        payload = _decoder.decode(raw)
    except BAD_JSON as error:
        raise PayloadError(str(error), name=reasons.UNRECOGNIZED_TASK) from None
    _check(payload)
    return _with_engine_objects(payload)


def _with_engine_objects(payload: TaskPayload) -> TaskPayload:
    """Return the payload with its JSON texts for the engine parsed, so that this happens once."""
    if not any(_has_text(container.docker_config) for container in payload.containers):
        return payload
    containers = [
        msgspec.structs.replace(
            container,
            docker_config=msgspec.structs.replace(
                container.docker_config,
                config=_object(container.docker_config.config),
                host_config=_object(container.docker_config.host_config),
            ),
        )
        for container in payload.containers
    ]
    return msgspec.structs.replace(payload, containers=containers)


def _has_text(docker: EngineConfig) -> bool:
    return isinstance(docker.config, str) or isinstance(docker.host_config, str)


def _object(given: dict[str, Any] | str | None) -> dict[str, Any] | str | None:
    """Return the object in a JSON text, None for empty text or null, or other text unchanged."""
    if not given or not isinstance(given, str):
        return given or None
    try:
        value = msgspec.json.decode(given)
    except (ValueError, RecursionError):
        return given
    return value if value is None or isinstance(value, dict) else given


def decode_arn(raw: bytes | msgspec.Raw) -> str:
    """Return the ARN of a payload that may be broken elsewhere; empty if there is none."""
    try:
        return _arn_decoder.decode(raw).arn
    except BAD_JSON:
        return ""


def _check(payload: TaskPayload) -> None:
    if not payload.arn:
        raise PayloadError("arn is empty", name=reasons.UNRECOGNIZED_TASK)
    if payload.network_mode and payload.network_mode not in set(NetworkMode):
        text = f"networkMode {payload.network_mode!r} is not one of {', '.join(NetworkMode)}"
        raise PayloadError(text, name=reasons.UNRECOGNIZED_TASK)
    if not payload.containers and payload.desired_status is DesiredStatus.RUNNING:
        raise PayloadError("containers is empty", name=reasons.UNRECOGNIZED_TASK)
    seen: set[str] = set()
    for index, container in enumerate(payload.containers):
        if not container.name:
            raise PayloadError(f"containers[{index}].name is empty", name=reasons.UNRECOGNIZED_TASK)
        if container.name in seen:
            text = f"containers[{index}].name {container.name!r} is used twice"
            raise PayloadError(text, name=reasons.UNRECOGNIZED_TASK)
        seen.add(container.name)
