"""Tasks and containers as ``/v1/tasks`` on port 51678 shows them. Pure.

Source of names, statuses and omissions: Amazon ECS agent 1.105.1, ``ecs-agent/introspection`` and
``agent/handlers/v1``.
Tests: ``tests/unit/endpoints/test_introspection.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, UnsetType, field

from agent.engine.ports import container_ports
from agent.errors import PayloadError
from agent.model.status import DesiredStatus, NetworkMode, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.model import payload as payloads
    from agent.model.task import AgentContainer, AgentTask, NetworkBinding

SHORT_ID: Final = 12
"""A container id with more characters than this must be the whole id."""


class Port(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One published port."""

    container_port: int
    protocol: str
    host_port: int


class Network(Struct, frozen=True, kw_only=True):
    """The addresses of a task in ``awsvpc`` mode."""

    network_mode: str = field(name="NetworkMode")
    ipv4_addresses: list[str] = field(name="IPv4Addresses")
    ipv6_addresses: list[str] | UnsetType = field(name="IPv6Addresses", default=UNSET)


class Volume(Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """One mounted volume."""

    docker_name: str = ""
    """The volume's name in its task; empty for a directory of the host."""
    source: str = ""
    destination: str


class IntrospectedContainer(Struct, frozen=True, kw_only=True):
    """One container."""

    docker_id: str = field(name="DockerId")
    docker_name: str = field(name="DockerName")
    name: str = field(name="Name")
    image: str = field(name="Image")
    image_id: str = field(name="ImageID")
    """As the engine lists it; empty if the engine does not answer."""
    created_at: str | UnsetType = field(name="CreatedAt", default=UNSET)
    started_at: str | UnsetType = field(name="StartedAt", default=UNSET)
    ports: list[Port] | UnsetType = field(name="Ports", default=UNSET)
    networks: list[Network] | UnsetType = field(name="Networks", default=UNSET)
    volumes: list[Volume] | UnsetType = field(name="Volumes", default=UNSET)
    restart_count: int | UnsetType = field(name="RestartCount", default=UNSET)
    """Only with a restart policy."""


class IntrospectedTask(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One task. Without arguments it is the body of an error."""

    arn: str = ""
    desired_status: str | UnsetType = UNSET
    known_status: str = ""
    family: str = ""
    version: str = ""
    containers: list[IntrospectedContainer] | None = None


NO_TASK: Final = IntrospectedTask()
"""The body when no task is found, or the question is wrong."""


class AmbiguousId(Exception):
    """The beginning of an id fits several containers."""


def find_by_container(records: Iterable[AgentTask], docker_id: str) -> AgentTask | None:
    """Return the task of a container, by its engine id or by a beginning of at most ``SHORT_ID``.

    Raises:
        AmbiguousId: several containers fit.
    """
    fitting = [
        record
        for record in records
        for container in record.containers.values()
        if container.runtime_id
        and (
            container.runtime_id == docker_id
            if len(docker_id) > SHORT_ID
            else container.runtime_id.startswith(docker_id)
        )
    ]
    if len(fitting) > 1:
        raise AmbiguousId
    return fitting[0] if fitting else None


def task(record: AgentTask, image_ids: Mapping[str, str]) -> IntrospectedTask:
    """Return one task.

    Args:
        record: what the agent knows of it.
        image_ids: the engine's ids of images, by the engine's ids of their containers.
    """
    return IntrospectedTask(
        arn=record.arn,
        desired_status=_desired(record),
        known_status=record.known.wire(),
        family=record.payload.family,
        version=record.payload.version,
        containers=[
            _container(record, definition, known, image_ids)
            for definition in record.payload.containers
            if (known := record.containers.get(definition.name)) is not None
        ],
    )


def _desired(record: AgentTask) -> str | UnsetType:
    """Return what a task should become; it says nothing new of one that has stopped by itself."""
    if record.known is TaskStatus.STOPPED and record.desired is not DesiredStatus.STOPPED:
        return UNSET
    return record.desired.value


def _container(
    record: AgentTask,
    definition: payloads.Container,
    known: AgentContainer,
    image_ids: Mapping[str, str],
) -> IntrospectedContainer:
    policy = definition.restart_policy
    return IntrospectedContainer(
        docker_id=known.runtime_id,
        docker_name=known.engine_name,
        name=known.name,
        image=definition.image,
        image_id=image_ids.get(known.runtime_id, ""),
        created_at=_time(known.created_at),
        started_at=_time(known.started_at),
        ports=list(_ports(record, definition, known)) or UNSET,
        networks=_networks(record),
        volumes=list(_volumes(record, definition)) or UNSET,
        restart_count=known.restart_count if policy and policy.enabled else UNSET,
    )


def _time(seconds: float) -> str | UnsetType:
    if not seconds:
        return UNSET
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _networks(record: AgentTask) -> list[Network] | UnsetType:
    network = record.network
    if record.payload.mode is not NetworkMode.AWSVPC or network is None:
        return UNSET
    if network.eni is not None:
        eni = network.eni
        return [
            Network(
                network_mode="awsvpc",
                ipv4_addresses=list(eni.ipv4),
                ipv6_addresses=list(eni.ipv6) or UNSET,
            )
        ]
    return [
        Network(
            network_mode="awsvpc",
            ipv4_addresses=[network.ipv4] if network.ipv4 else [],
            ipv6_addresses=[network.ipv6] if network.ipv6 else UNSET,
        )
    ]


def _ports(
    record: AgentTask, definition: payloads.Container, known: AgentContainer
) -> Iterator[Port]:
    """Yield ports as they are bound; before that, and in ``awsvpc`` mode, as they were ordered."""
    if known.bindings:
        for binding in known.bindings:
            yield from _bound(binding)
        return
    has_own_network = record.payload.mode is NetworkMode.AWSVPC
    for mapping in definition.port_mappings:
        try:
            ports = container_ports(mapping)
        except PayloadError:  # the container is refused for it
            continue
        for port in ports:
            yield Port(
                container_port=port,
                protocol=mapping.protocol or "tcp",
                host_port=port if has_own_network else mapping.host_port,
            )


def _bound(binding: NetworkBinding) -> Iterator[Port]:
    ports = _range(binding.container_port_range, binding.container_port)
    hosts = _range(binding.host_port_range, binding.host_port)
    for port, host in zip(ports, hosts, strict=False):
        yield Port(container_port=port, protocol=binding.protocol, host_port=host)


def _range(text: str | None, port: int | None) -> range:
    if text:
        first, _, last = text.partition("-")
        return range(int(first), int(last) + 1)
    return range(port, port + 1) if port is not None else range(0)


def _volumes(record: AgentTask, definition: payloads.Container) -> Iterator[Volume]:
    sources = {
        volume.name: volume.host.source_path if volume.host else ""
        for volume in record.payload.volumes
    }
    for point in definition.mount_points:
        source = sources.get(point.source_volume, "")
        yield Volume(
            docker_name="" if source else point.source_volume,
            source=source,
            destination=point.container_path,
        )
