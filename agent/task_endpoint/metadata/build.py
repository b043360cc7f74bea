"""Builds the objects of ``document`` from what is known of a task. Pure.

What the engine says of a container wins over its record, which has all that is needed where the engine did
not describe it: but for networks outside awsvpc mode.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from agent.engine import log_config
from agent.engine.ports import container_ports
from agent.errors import PayloadError
from agent.model import ids
from agent.model.status import ContainerStatus, Health, NetworkMode
from agent.task_endpoint.metadata import document, networks
from agent.task_endpoint.metadata.facts import NetworksUnknown, TaskTags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model import payload as payloads
    from agent.model.task import AgentContainer, NetworkBinding
    from agent.runtime.protocol import ContainerDetails
    from agent.task_endpoint.metadata.facts import HostFacts, SeenTask

NORMAL: Final = "NORMAL"
SANDBOX: Final = ("~internal~ecs~pause", "CNI_PAUSE")
HOLDER: Final = ("~internal~ecs~pause~namespace", "NAMESPACE_PAUSE")
"""Name and type of the containers that the agent adds to a task, as Amazon ECS calls them."""
MIN_CPU: Final = 2
"""Fewer CPU units are shown as this, which is what the engine is told."""
_NANOSECONDS: Final = 1_000_000_000


def rfc3339(seconds: float) -> str:
    """Return a Unix time in RFC 3339 with nanoseconds, in UTC; empty for 0."""
    if not seconds:
        return ""
    whole, rest = divmod(round(seconds * 1e6), 1_000_000)
    day = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{day}.{rest * 1000:09d}Z"


def task(
    seen: SeenTask,
    host: HostFacts,
    *,
    extended: bool,
    tags: TaskTags | None = None,
) -> document.Task:
    """Return one task.

    Args:
        seen: the task.
        host: what is the same for all tasks.
        extended: whether for version 4. There, containers are listed that are yet to be made, and a
            container whose networks are unknown has none.
        tags: if they were asked for.

    Raises:
        NetworksUnknown: of a container, in versions 2 and 3.
    """
    record, tags = seen.record, tags or TaskTags()
    limits = document.TaskLimits(cpu=record.payload.cpu, memory=record.payload.memory)
    fields: dict[str, Any] = {
        "cluster": ids.task_cluster(record.arn, host.cluster),
        "task_arn": record.arn,
        "family": record.payload.family,
        "revision": record.payload.version,
        "desired_status": record.desired.value,
        "known_status": record.known.name,
        "containers": list(_containers(seen, extended=extended)),
        "limits": limits if limits.cpu or limits.memory else None,
        "pull_started_at": rfc3339(record.pull_started_at),
        "pull_stopped_at": rfc3339(record.pull_stopped_at),
        "execution_stopped_at": rfc3339(record.execution_stopped_at),
        "availability_zone": host.availability_zone,
        "task_tags": tags.task,
        "container_instance_tags": tags.instance,
    }
    if not extended:
        return document.Task(**fields)
    return document.TaskV4(
        **fields,
        launch_type=record.payload.launch_type,
        errors=tags.errors,
        service_name=record.payload.service_name,
        fault_injection_enabled=seen.record.payload.enable_fault_injection,
    )


def _containers(seen: SeenTask, *, extended: bool) -> Iterator[document.Container]:
    if seen.sandbox is not None:
        yield _added(seen, seen.sandbox, SANDBOX, extended=extended)
    if seen.holder is not None:
        yield _added(seen, seen.holder, HOLDER, extended=extended)
    for definition in seen.record.payload.containers:
        known = seen.record.containers.get(definition.name)
        if known is None:
            continue
        if known.runtime_id:
            try:
                yield container(seen, definition.name, extended=extended)
            except NetworksUnknown:
                if not extended:
                    raise
                yield _container(seen, definition, known, [], extended=True)
        elif extended and known.known is ContainerStatus.PULLED:
            yield _container(seen, definition, known, _of_task(seen), extended=True)


def container(seen: SeenTask, name: str, *, extended: bool) -> document.Container:
    """Return one container of a task, which the engine has made.

    Raises:
        KeyError: the task has no such container.
        NetworksUnknown: its networks are unknown.
    """
    known, definition = seen.record.containers[name], seen.record.payload.container(name)
    if definition is None:
        raise KeyError(name)
    found = networks.of_container(seen, known.runtime_id, seen.details.get(name), extended=extended)
    return _container(seen, definition, known, found, extended=extended)


def _container(
    seen: SeenTask,
    definition: payloads.Container,
    known: AgentContainer,
    found: list[document.Network],
    *,
    extended: bool,
) -> document.Container:
    details = seen.details.get(known.name)
    is_made = bool(known.runtime_id)
    is_over = known.known is ContainerStatus.STOPPED
    fields: dict[str, Any] = {
        "docker_id": known.runtime_id,
        "name": known.name,
        "docker_name": known.engine_name,
        "image": definition.image,
        "image_id": details.state.image_id if details else "",
        "ports": _ports(seen, definition, known, details, extended=extended) if is_made else [],
        "labels": details.state.labels if details else {},
        "desired_status": known.desired.name,
        "known_status": known.known.name,
        "exit_code": known.exit_code,
        "limits": document.ContainerLimits(
            cpu=max(definition.cpu, MIN_CPU), memory=definition.memory
        ),
        "created_at": _engine_time(details.created_at if details else "", known.created_at),
        "started_at": _engine_time(details.started_at if details else "", known.started_at),
        "finished_at": _engine_time(details.finished_at if details else "", known.finished_at)
        if is_over
        else "",
        "type": NORMAL,
        "health": _health(definition, known, details),
        "volumes": _volumes(details),
        "networks": found,
    }
    if not extended:
        return document.Container(**fields)
    policy = definition.restart_policy
    counted = policy is not None and policy.enabled and is_made
    return document.ContainerV4(
        **fields,
        log_driver=log_config.driver(definition),
        log_options=_texts(log_config.options(definition)),
        container_arn=definition.container_arn,
        restart_count=known.restart_count if counted else None,
    )


def _added(
    seen: SeenTask, details: ContainerDetails, what: tuple[str, str], *, extended: bool
) -> document.Container:
    """Return a container that the agent added to the task."""
    name, kind = what
    status = ContainerStatus.RESOURCES_PROVISIONED if details.state.running else None
    made = document.ContainerV4 if extended else document.Container
    return made(
        docker_id=details.state.id,
        name=name,
        docker_name=details.state.name,
        image=details.image,
        image_id=details.state.image_id,
        labels=details.state.labels,
        desired_status=ContainerStatus.RESOURCES_PROVISIONED.name,
        known_status=(status or ContainerStatus.STOPPED).name,
        limits=document.ContainerLimits(cpu=MIN_CPU, memory=0),
        created_at=details.created_at,
        started_at=details.started_at,
        finished_at="" if details.state.running else details.finished_at,
        type=kind,
        networks=networks.of_container(seen, details.state.id, details, extended=extended),
    )


def _of_task(seen: SeenTask) -> list[document.Network]:
    """Return the network that a container which is yet to be made will have, where it is known."""
    network = seen.record.network
    if seen.record.payload.mode is not NetworkMode.AWSVPC or network is None:
        return []
    return [networks.of_task(network, seen.sandbox, extended=True)]


def _engine_time(told: str, recorded: float) -> str:
    """Return a time as the engine tells it, which has nanoseconds; else the recorded one."""
    return told or rfc3339(recorded)


def _ports(
    seen: SeenTask,
    definition: payloads.Container,
    known: AgentContainer,
    details: ContainerDetails | None,
    *,
    extended: bool,
) -> list[document.Port]:
    mode = seen.record.payload.mode
    if mode is NetworkMode.BRIDGE and details is not None:
        return [
            document.Port(
                container_port=port.container_port,
                protocol=port.protocol,
                host_port=port.host_port,
                host_ip=port.host_ip if extended else "",
            )
            for port in details.ports
        ]
    if mode is not NetworkMode.AWSVPC:
        return [port for each in known.bindings for port in _bound(each, extended=extended)]
    return [
        document.Port(container_port=port, protocol=mapping.protocol or "tcp", host_port=port)
        for mapping in definition.port_mappings
        for port in _mapped(mapping)
    ]


def _mapped(mapping: payloads.PortMapping) -> list[int]:
    try:
        return container_ports(mapping)
    except PayloadError:
        return []


def _bound(binding: NetworkBinding, *, extended: bool) -> Iterator[document.Port]:
    ports = _range(binding.container_port_range, binding.container_port)
    hosts = _range(binding.host_port_range, binding.host_port)
    for port, host in zip(ports, hosts, strict=False):
        yield document.Port(
            container_port=port,
            protocol=binding.protocol,
            host_port=host,
            host_ip=binding.bind_ip if extended else "",
        )


def _range(text: str | None, one: int | None) -> range:
    if not text:
        return range(one, one + 1) if one else range(0)
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


def _health(
    definition: payloads.Container, known: AgentContainer, details: ContainerDetails | None
) -> document.Health | None:
    if definition.health_check_type != "docker":
        return None
    probe = details.probe if details else None
    return document.Health(
        status="" if known.health is Health.UNKNOWN else known.health.value,
        status_since=rfc3339(known.health_since),
        exit_code=probe.exit_code if probe else 0,
        output=probe.output if probe else "",
    )


def _volumes(details: ContainerDetails | None) -> list[document.VolumeMount]:
    return [
        document.VolumeMount(
            docker_name=mount.name, source=mount.source, destination=mount.destination
        )
        for mount in (details.mounts if details else ())
    ]


def _texts(options: dict[str, Any]) -> dict[str, str]:
    return {key: value for key, value in options.items() if isinstance(value, str)}
