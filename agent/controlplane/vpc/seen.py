"""Hosts and interfaces of tasks, as the store has them; only the fields that EC2 shows are decoded."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from msgspec import field
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.fleet_network import members
from agent.controlplane.fleet_network.members import MemberRecord
from agent.controlplane.records import AttributeRecord, Record
from agent.model.security_groups import GROUPS_DETAIL

if TYPE_CHECKING:
    from agent.controlplane.store.contract import Store

ADDRESS = "ecs-host-agent.address"
POOL = "ecs-host-agent.task-pool"
"""Ours, attributes: where other machines reach a host, and the IPv4 network of its tasks."""
_ZONE = "ecs.availability-zone"
_PUBLIC = "ENABLED"


class _Resources(Record, frozen=True):
    hostname: str = ""
    architecture: str = ""


class SeenHost(Record, frozen=True):
    """A host that is registered."""

    id: str = ""
    arn: str = ""
    cluster: str = ""
    status: str = "ACTIVE"
    resources: _Resources = field(default_factory=_Resources)
    attributes: dict[str, AttributeRecord] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    ec2_instance_id: str = ""
    registered_at: float = 0.0
    range: str = ""
    """In the network between hosts; takes precedence over the pool that it reports."""

    def value(self, attribute: str) -> str:
        """Return the value of an attribute; empty if it has none."""
        found = self.attributes.get(attribute)
        return (found.value or "") if found is not None else ""

    @property
    def zone(self) -> str:
        """Its availability zone."""
        return self.value(_ZONE)

    @property
    def address(self) -> str:
        """Where other machines reach it; empty if it does not know."""
        return self.value(ADDRESS)

    @property
    def pool(self) -> IPv4Network | None:
        """The IPv4 addresses of its tasks; None if it reports none."""
        try:
            return IPv4Network(self.range or self.value(POOL))
        except ValueError:
            return None

    @property
    def instance_id(self) -> str:
        """Its id in EC2: that of the instance that it is, or one that follows from its id here."""
        return records.ec2_id(self.id, self.ec2_instance_id)


class _Attachment(Record, frozen=True):
    id: str = ""
    status: str = ""
    details: dict[str, str] = field(default_factory=dict)


class SeenTask(Record, frozen=True):
    """What of a task's record is about its interface."""

    id: str = ""
    arn: str = ""
    cluster: str = ""
    last_status: str = ""
    instance_arn: str = ""
    availability_zone: str = ""
    created_at: float = 0.0
    attachments: list[_Attachment] = field(default_factory=list)
    network_configuration: dict[str, Any] = field(default_factory=dict)

    @property
    def interface(self) -> Interface | None:
        """Its interface, once its agent has reported one; None when it is gone, too."""
        if self.last_status == "STOPPED":
            return None
        for one in self.attachments:
            if one.status != "DELETED" and one.details.get("networkInterfaceId"):
                vpc = self.network_configuration.get("awsvpcConfiguration") or {}
                return Interface(
                    id=one.details["networkInterfaceId"],
                    attachment_id=one.id,
                    details=one.details,
                    zone=self.availability_zone,
                    created_at=self.created_at,
                    is_public=vpc.get("assignPublicIp") == _PUBLIC,
                )
        return None


class Interface(Record, frozen=True):
    """The interface of a task in ``awsvpc`` mode."""

    id: str
    attachment_id: str
    details: dict[str, str]
    zone: str
    created_at: float
    is_public: bool
    """Whether the task asked for a public address."""

    @property
    def ipv4(self) -> str:
        """Its IPv4 address; empty if it has none."""
        return self.details.get("privateIPv4Address", "")

    @property
    def ipv6(self) -> str:
        """Its IPv6 address; empty if it has none."""
        return self.details.get("privateIPv6Address", "")

    @property
    def public(self) -> str:
        """The address under which others reach it: its own, as there is no other; empty if none was asked for."""
        return self.ipv4 if self.is_public else ""

    @property
    def groups(self) -> list[str]:
        """Ids of its security groups."""
        return [one for one in self.details.get(GROUPS_DETAIL, "").split(",") if one]


async def hosts(store: Store) -> list[SeenHost]:
    """Return the hosts that are registered, by id."""
    ranges = {
        records.last_element(kv.key): record.host.range
        async for kv, record in access.scan(store, MemberRecord, members.MEMBERS)
        if record.takes_part
        and ":" not in record.host.range  # that of IPv6 names no pool of EC2's kind
    }
    found = []
    async for _, host in access.scan(store, SeenHost, records.INSTANCES):
        if host.status != "INACTIVE":
            own = ranges.get(host.id, "")
            found.append(replace(host, range=own) if own else host)
    return sorted(found, key=lambda host: host.id)


async def interfaces(store: Store) -> list[Interface]:
    """Return the interfaces of tasks that have not stopped, by id."""
    found = []
    async for _, task in access.scan(store, SeenTask, records.TASKS):
        one = task.interface
        if one is not None:
            found.append(one)
    return sorted(found, key=lambda each: each.id)
