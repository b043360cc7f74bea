"""Which containers of a task ask Prometheus to scrape them, and where they are reached. Pure.

A container asks in one of three ways; the first that it uses counts:

1. The Docker labels of CloudWatch's agent: ``ECS_PROMETHEUS_EXPORTER_PORT``, with
   ``ECS_PROMETHEUS_METRICS_PATH`` and ``ECS_PROMETHEUS_JOB_NAME``.
2. The labels that are usual on Kubernetes: ``prometheus.io/scrape: "true"``, with ``prometheus.io/port``,
   ``prometheus.io/path`` and ``prometheus.io/scheme``. Without a port, that of its only port mapping.
   ``prometheus.io/scrape: "false"`` also turns off the third way.
3. A port mapping with the name ``metrics`` or ``prometheus``, or one that ends in ``-metrics``.

Labels of targets have the names of Prometheus' own discovery for ECS (``discovery/aws/ecs.go``), and more for
what that does not know, such as the container.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import Struct, field

from agent.config.addresses import LARGEST_PORT, HostPort, parse_listen
from agent.controlplane import host_ports
from agent.controlplane.definition.payload import network_mode
from agent.model.changes import NetworkInterface
from agent.model.task import NetworkBinding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent.controlplane.records import InstanceRecord, TaskDefinitionRecord

METRICS_ADDRESS: Final = "ecs-host-agent.metrics"
"""Attribute of hosts: ``ADDRESS:PORT`` at which their agent serves ``/metrics``."""

_PORT: Final = "ECS_PROMETHEUS_EXPORTER_PORT"
_PATH: Final = "ECS_PROMETHEUS_METRICS_PATH"
_JOB: Final = "ECS_PROMETHEUS_JOB_NAME"
_ANNOTATION: Final = "prometheus.io/"
_PORT_NAME: Final = re.compile(r"(?:.*-)?metrics|prometheus")
_NOT_IN_LABELS: Final = re.compile(r"[^a-zA-Z0-9_]")
_DEFAULT_PATH: Final = "/metrics"
_SCHEMES: Final = frozenset({"http", "https"})
_LABELS_MOST: Final = 64
"""Docker labels and tags of one target, each."""
_SERVICE: Final = "service:"


class Exporter(NamedTuple):
    """One port of a container that serves metrics."""

    container: str
    port: int | None
    """None for one that cannot be read."""
    path: str = _DEFAULT_PATH
    scheme: str = "http"
    job: str = ""


class Exporters(NamedTuple):
    """What all tasks of one revision of a task definition have in common."""

    mode: str
    family: str
    found: tuple[Exporter, ...]
    docker_labels: Mapping[str, Mapping[str, str]]
    """By container, as labels of targets."""


class TaskContainer(Struct, frozen=True, rename="camel"):
    """The fields of a container's record that are needed here."""

    name: str
    image: str = ""
    last_status: str = "PENDING"
    network_bindings: list[NetworkBinding] = field(default_factory=list)
    network_interfaces: list[NetworkInterface] = field(default_factory=list)


class TaskAttachment(Struct, frozen=True, rename="camel"):
    """The fields of an attachment's record that are needed here."""

    details: dict[str, str] = field(default_factory=dict)


class TaskFacts(Struct, frozen=True, rename="camel"):
    """The fields of a task's record that are needed here; others are not decoded."""

    id: str
    arn: str
    cluster: str
    task_definition_arn: str
    family: str
    revision: int
    instance_id: str = ""
    instance_arn: str = ""
    desired_status: str = "RUNNING"
    last_status: str = "PENDING"
    health_status: str = "UNKNOWN"
    containers: list[TaskContainer] = field(default_factory=list)
    attachments: list[TaskAttachment] = field(default_factory=list)
    group: str = ""
    launch_type: str = "EC2"
    platform_version: str = ""
    platform_family: str = ""
    availability_zone: str = ""
    network_configuration: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Target(Struct, frozen=True):
    """One address to scrape, in the format of Prometheus' HTTP discovery."""

    targets: list[str]
    labels: dict[str, str]


def exporters(definition: TaskDefinitionRecord) -> Exporters:
    """Return which containers of a task definition serve metrics."""
    body = definition.definition
    containers: Sequence[Mapping[str, Any]] = body.get("containerDefinitions", ())
    return Exporters(
        mode=network_mode(body),
        family=definition.family,
        found=tuple(one for container in containers for one in _of_container(container)),
        docker_labels={
            container["name"]: _meta("container_label_", container.get("dockerLabels") or {})
            for container in containers
        },
    )


def _of_container(container: Mapping[str, Any]) -> Iterator[Exporter]:
    name: str = container["name"]
    labels: Mapping[str, str] = container.get("dockerLabels") or {}
    mappings: Sequence[Mapping[str, Any]] = container.get("portMappings") or ()
    wanted = labels.get(f"{_ANNOTATION}scrape", "").strip().lower()
    if _PORT in labels:
        path = _path(labels.get(_PATH, ""))
        yield Exporter(name, _port(labels[_PORT]), path, job=labels.get(_JOB, ""))
    elif wanted == "true":
        scheme = labels.get(f"{_ANNOTATION}scheme", "").strip().lower() or "http"
        port = _port(labels.get(f"{_ANNOTATION}port", "") or _only_port(mappings))
        path = _path(labels.get(f"{_ANNOTATION}path", ""))
        yield Exporter(name, port if scheme in _SCHEMES else None, path, scheme)
    elif wanted != "false":
        for mapping in mappings:
            if _PORT_NAME.fullmatch(mapping.get("name") or ""):
                yield Exporter(name, mapping.get("containerPort"))


def _port(text: str) -> int | None:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    return int(text) if 0 < int(text) <= LARGEST_PORT else None


def _only_port(mappings: Sequence[Mapping[str, Any]]) -> str:
    ports = {m["containerPort"] for m in mappings if m.get("containerPort")}
    return str(ports.pop()) if len(ports) == 1 else ""


def _path(text: str) -> str:
    text = text.strip()
    return text if text.startswith("/") else f"/{text}" if text else _DEFAULT_PATH


def of_task(
    task: TaskFacts, wanted: Exporters, instance: InstanceRecord | None, region: str
) -> tuple[list[Target], int]:
    """Return the targets of a task, and how many of its exporters cannot be reached.

    Only containers that run count. One cannot be reached if its port is not valid, is not published
    (``bridge``), or its host has not said where it is (``bridge``, ``host``).

    Args:
        task: the task.
        wanted: the exporters of its definition.
        instance: its host; None if there is no record of it.
        region: of control.
    """
    found: list[Target] = []
    lost = 0
    running = {c.name: c for c in task.containers if c.last_status == "RUNNING"}
    common: dict[str, str] | None = None
    for exporter in wanted.found:
        container = running.get(exporter.container)
        if container is None:
            continue
        place = _place(wanted.mode, exporter, container, task, instance)
        if place is None:
            lost += 1
            continue
        if common is None:
            common = _labels(task, wanted, instance, region)
        of_container = wanted.docker_labels[exporter.container]
        labels = {**common, **of_container, **_of_exporter(exporter, container, place)}
        found.append(Target([place.text()], labels))
    return found, lost


def _place(
    mode: str,
    exporter: Exporter,
    container: TaskContainer,
    task: TaskFacts,
    instance: InstanceRecord | None,
) -> HostPort | None:
    port = exporter.port
    if port is None:
        return None
    if mode == "awsvpc":
        addresses = [i.private_ipv4_address or i.ipv6_address for i in container.network_interfaces]
        # With Amazon's wire, only the attachment has it.
        addresses += [
            a.details.get("privateIPv4Address") or a.details.get("privateIPv6Address", "")
            for a in task.attachments
        ]
        found = next((address for address in addresses if host_ports.is_host(address)), None)
        return HostPort(found, port) if found else None
    host = host_ports.host_address(instance)
    reached = (
        (host, port)
        if mode == "host"
        else host_ports.published(container.network_bindings, port, host)
    )
    return HostPort(*reached) if reached is not None and reached[0] else None


def _of_exporter(exporter: Exporter, container: TaskContainer, place: HostPort) -> dict[str, str]:
    labels = {
        "__metrics_path__": exporter.path,
        "__scheme__": exporter.scheme,
        "__meta_ecs_ip_address": place.host,
        "__meta_ecs_container_name": container.name,
        "__meta_ecs_container_image": container.image,
        "__meta_ecs_container_port": str(exporter.port),
    }
    return labels | {"job": exporter.job} if exporter.job else labels


def _labels(
    task: TaskFacts, wanted: Exporters, instance: InstanceRecord | None, region: str
) -> dict[str, str]:
    arn_of_cluster = task.arn.partition(":task/")[0] + f":cluster/{task.cluster}"
    vpc = task.network_configuration.get("awsvpcConfiguration") or {}
    service = task.group.removeprefix(_SERVICE) if task.group.startswith(_SERVICE) else ""
    labels = {
        "cluster": task.cluster,
        "cluster_arn": arn_of_cluster,
        "service": service,
        "task_group": task.group,
        "task_arn": task.arn,
        "task_id": task.id,
        "task_definition": task.task_definition_arn,
        "task_definition_family": task.family,
        "task_definition_revision": str(task.revision),
        "region": region,
        "availability_zone": task.availability_zone,
        "subnet_id": next(iter(vpc.get("subnets") or ()), ""),
        "launch_type": task.launch_type,
        "desired_status": task.desired_status,
        "last_status": task.last_status,
        "health_status": task.health_status,
        "platform_family": task.platform_family,
        "platform_version": task.platform_version,
        "network_mode": wanted.mode,
        "container_instance_arn": task.instance_arn,
    }
    shown = {f"__meta_ecs_{name}": value for name, value in labels.items() if value}
    shown |= _meta("tag_task_", task.tags)
    return shown | (_of_instance(instance) if instance is not None else {})


def _of_instance(instance: InstanceRecord) -> dict[str, str]:
    labels = {
        "__meta_ecs_ec2_instance_id": instance.ec2_instance_id,
        "__meta_ecs_hostname": instance.resources.hostname,
        "__meta_ecs_ec2_instance_private_ip": host_ports.host_address(instance),
    }
    tags = _meta("tag_container_instance_", instance.tags)
    return {name: value for name, value in labels.items() if value} | tags


def of_agent(instance: InstanceRecord, region: str, *, connected: bool) -> Target | None:
    """Return where the agent of a host serves its metrics; None if it does not for others."""
    said = instance.attribute_values.get(METRICS_ADDRESS)
    if not said or instance.status == "INACTIVE":
        return None
    try:
        address = parse_listen(said)
    except ValueError:
        return None
    labels = {
        "__meta_ecs_cluster": instance.cluster,
        "__meta_ecs_region": region,
        "__meta_ecs_availability_zone": instance.attribute_values.get("ecs.availability-zone")
        or "",
        "__meta_ecs_container_instance_arn": instance.arn,
        "__meta_ecs_container_instance_status": instance.status,
        "__meta_ecs_agent_connected": "true" if connected else "false",
        "__meta_ecs_agent_version": instance.agent_version,
    }
    shown = {name: value for name, value in labels.items() if value}
    return Target([address.text()], shown | _of_instance(instance))


def _meta(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return labels or tags under names that Prometheus accepts; a bounded number of them."""
    return {
        f"__meta_ecs_{prefix}{_NOT_IN_LABELS.sub('_', name)}": value
        for name, value in list(values.items())[:_LABELS_MOST]
    }
