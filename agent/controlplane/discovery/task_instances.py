"""The instance that stands for a task of a service with a registry. Pure.

Source of the attributes and the rules: the ECS developer guide ("Service discovery"). As there, the id of the
instance is that of the task. A task is registered once it runs and, if it has health checks, was healthy; from
then on its health is that of the instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from agent.controlplane.discovery.record import (
    HEALTHY,
    IPV4,
    IPV6,
    NEEDED,
    PORT,
    UNHEALTHY,
    RegisteredInstance,
)

if TYPE_CHECKING:
    from agent.controlplane.discovery.record import RegistryRecord

MARK: Final = b'"registryId"'
"""In the stored JSON of every task with a registry; in that of others only if one of their texts has it."""
_GROUP: Final = "service:"


class _Interface(Struct, frozen=True, rename="camel"):
    private_ipv4_address: str = field(default="", name="privateIpv4Address")
    ipv6_address: str = ""


class _Container(Struct, frozen=True, rename="camel"):
    essential: bool = True
    health_check: bool = False
    network_interfaces: list[_Interface] = field(default_factory=list)


class Registration(Struct, frozen=True, rename="camel"):
    """A registry that a task is in, and its port there; 0 for none."""

    registry_id: str
    port: int = 0


class NamedTask(Struct, frozen=True, rename="camel"):
    """The fields of a ``TaskRecord`` that its instance has; others are not decoded."""

    id: str = ""
    cluster: str = ""
    family: str = ""
    group: str = ""
    instance_id: str = ""
    instance_arn: str = ""
    desired_status: str = "RUNNING"
    last_status: str = "PENDING"
    health_status: str = "UNKNOWN"
    availability_zone: str = ""
    registry_id: str = ""
    registry_port: int = 0
    connected_ports: list[Registration] = field(default_factory=list)
    containers: list[_Container] = field(default_factory=list)

    @property
    def serves(self) -> bool:
        """Whether it may have an instance at all: it runs, and was not told to stop."""
        return self.desired_status == self.last_status == "RUNNING"

    @property
    def registrations(self) -> list[Registration]:
        """The registries that it is to be in: that of its service, and those of Service Connect."""
        own = [Registration(self.registry_id, self.registry_port)] if self.registry_id else []
        return [*own, *self.connected_ports]

    @property
    def interface(self) -> _Interface:
        """Its addresses, as far as they are known."""
        found = [each for c in self.containers for each in c.network_interfaces]
        return found[0] if found else _Interface()

    @property
    def has_check(self) -> bool:
        """Whether an essential container has a health check."""
        return any(c.essential and c.health_check for c in self.containers)


def instance_of(
    task: NamedTask,
    key: str,
    registry: RegistryRecord,
    known: RegisteredInstance | None,
    *,
    port: int,
    region: str,
    ec2_instance_id: str = "",
) -> RegisteredInstance | None:
    """Return the instance of a task; None if it is to have none now.

    Args:
        task: the task.
        key: of its record.
        registry: where it is registered.
        known: what is registered for it.
        port: that it is registered with; 0 for none.
        region: control's region.
        ec2_instance_id: of its host, if that is an instance of EC2.
    """
    health = _health(task, known) if task.serves else ""
    if not health:
        return None
    addresses = task.interface
    given = {
        IPV4: addresses.private_ipv4_address,
        IPV6: addresses.ipv6_address,
        PORT: str(port or ""),
        "AVAILABILITY_ZONE": task.availability_zone,
        "EC2_INSTANCE_ID": ec2_instance_id,
        "ECS_CLUSTER_NAME": task.cluster,
        "ECS_SERVICE_NAME": task.group.removeprefix(_GROUP),
        "ECS_TASK_DEFINITION_FAMILY": task.family,
        "REGION": region,
    }
    attributes = {name: value for name, value in given.items() if value}
    if not {IPV4, IPV6} & set(attributes):
        return None
    if any(NEEDED[kind] not in attributes for kind in registry.dns_records):
        return None
    return RegisteredInstance(
        id=task.id,
        attributes=attributes,
        health=health if registry.has_custom_health else "",
        task=key,
    )


def _health(task: NamedTask, known: RegisteredInstance | None) -> str:
    """Return the health of a task that runs; empty while it was never healthy."""
    if not task.has_check or task.health_status == HEALTHY:
        return HEALTHY
    if known is None:
        return ""
    # A restarted agent does not know yet: what was known stays.
    return UNHEALTHY if task.health_status == UNHEALTHY else known.health or HEALTHY
