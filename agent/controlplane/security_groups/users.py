"""Who uses a security group: tasks that have not stopped, services, and rules of other groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import field

from agent.controlplane import access, records
from agent.controlplane.records import Record
from agent.controlplane.security_groups import stored
from agent.model.security_groups import GROUPS_DETAIL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Store


class _Interface(Record, frozen=True):
    details: dict[str, str] = field(default_factory=dict)


class TaskGroups(Record, frozen=True):
    """What of a task's record is about its groups."""

    instance_id: str = ""
    last_status: str = ""
    attachments: list[_Interface] = field(default_factory=list)

    @property
    def is_member(self) -> bool:
        """Whether it counts: it has not stopped, and has groups."""
        return self.last_status != "STOPPED" and bool(self.groups)

    @property
    def groups(self) -> tuple[str, ...]:
        """Ids of its groups."""
        listed = (each.details.get(GROUPS_DETAIL, "") for each in self.attachments)
        return tuple(group for ids in listed for group in ids.split(",") if group)

    @property
    def addresses(self) -> frozenset[str]:
        """Its addresses, as far as its agent has reported them."""
        details = [each.details for each in self.attachments]
        found = [each.get(name, "") for each in details for name in _ADDRESSES]
        return frozenset(address for address in found if address)


_ADDRESSES = ("privateIPv4Address", "privateIPv6Address")


class _Deployment(Record, frozen=True):
    network_configuration: dict[str, Any] = field(default_factory=dict)


class _TaskSet(Record, frozen=True):
    deployment: _Deployment = field(default_factory=_Deployment)


class _Service(Record, frozen=True):
    status: str = ""
    deployments: list[_Deployment] = field(default_factory=list)
    task_sets: list[_TaskSet] = field(default_factory=list)


async def is_used(store: Store, names: Names, group_id: str) -> bool:
    """Return whether anybody uses a group; reads every group, service and task."""
    for group in await stored.every(store, names):
        if group.id != group_id and group_id in group.peers:
            return True
    async for _, service in access.scan(store, _Service, records.SERVICES):
        if service.status != "INACTIVE" and any(
            group_id in groups_of(each.network_configuration)
            for each in (*service.deployments, *(one.deployment for one in service.task_sets))
        ):
            return True
    async for _, task in access.scan(store, TaskGroups, records.TASKS):
        if task.is_member and group_id in task.groups:
            return True
    return False


def groups_of(network_configuration: Mapping[str, Any]) -> list[str]:
    """Return the ids of the groups that a network configuration names. Pure."""
    vpc: dict[str, Any] = network_configuration.get("awsvpcConfiguration") or {}
    return list(vpc.get("securityGroups") or ())
