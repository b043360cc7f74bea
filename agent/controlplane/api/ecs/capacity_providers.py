"""Create, Update, Delete and DescribeCapacityProviders.

FARGATE and FARGATE_SPOT always exist. Operators create the others, those of Auto Scaling groups: the group
is a name that the operator chooses, and the hosts that name the provider in their attribute
``placement.CAPACITY_PROVIDER`` belong to it. With managed scaling, ``host_scaling`` adds and removes hosts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs.auto_scaling_groups import new_group, updated_group
from agent.controlplane.api.ecs.naming import DESCRIBE_LIMIT, active_cluster, at_most
from agent.controlplane.api.ecs.tags import read_tags, show_tags
from agent.controlplane.front.errors import (
    ClientException,
    InvalidParameterException,
    LimitExceededException,
    UnsupportedFeatureException,
)
from agent.controlplane.front.pages import page_size, start_after, token
from agent.controlplane.records import ClusterRecord
from agent.controlplane.store.contract import Put, as_read, unchanged
from agent.controlplane.tasks import capacity, providers
from agent.controlplane.tasks.providers import ACTIVE, INACTIVE, CapacityProviderRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Handlers, Parts

PROVIDERS_LIMIT = 100
"""Created by operators; Amazon's quota is of the same order."""
NAME_LENGTH = 128
"""Amazon ECS takes 255 characters, but hosts name their provider in the value of an attribute."""
_PAGE_LIMIT = 10
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_RESERVED = ("aws", "ecs", "fargate")


async def create_capacity_provider(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a capacity provider of an Auto Scaling group; a deleted one's name can be used again."""
    name = request["name"]
    _check_kind(request)
    _check_name(name)
    new = CapacityProviderRecord(
        name=name,
        arn=parts.names.capacity_provider(name),
        update_status="CREATE_COMPLETE",
        auto_scaling_group=new_group(
            request.get("autoScalingGroupProvider") or {}, has_hook=_has_hook(parts, name)
        ),
        tags=read_tags(request.get("tags", ())),
        created_at=parts.clock(),
    )
    tries = access.ConflictRetries(new.arn)
    while True:
        # Of two that are created for one group at once, the second sees the first.
        guard = await parts.store.get(providers.GUARD_KEY)
        others = [one.record async for one in _all(parts) if one.record.status == ACTIVE]
        _check_others(new, others)
        puts = [
            Put(providers.key_of(name), records.encode(new)),
            Put(providers.GUARD_KEY, b""),
        ]
        if (await parts.store.txn([as_read(providers.GUARD_KEY, guard)], puts)).succeeded:
            return {"capacityProvider": _show(parts, new, with_tags=True)}
        await tries.again()


async def update_capacity_provider(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change settings of a capacity provider; what the request leaves out stays."""
    _check_kind(request)
    given = request.get("autoScalingGroupProvider")
    if not given:
        raise InvalidParameterException("autoScalingGroupProvider must be specified.")

    def apply(old: CapacityProviderRecord) -> CapacityProviderRecord:
        if old.status != ACTIVE:
            raise providers.missing(old.name)
        has_hook = _has_hook(parts, old.name)
        group = updated_group(old.auto_scaling_group, given, has_hook=has_hook)
        return replace(old, auto_scaling_group=group, update_status="UPDATE_COMPLETE")

    name = _changeable(parts, request["name"])
    key = providers.key_of(name)
    changed = await access.change(parts.store, CapacityProviderRecord, key, apply)
    if changed is None:
        raise providers.missing(name)
    return {"capacityProvider": _show(parts, changed, with_tags=True)}


async def delete_capacity_provider(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a capacity provider that no cluster has; it is INACTIVE at once, and described for a day."""
    if request.get("cluster"):
        raise _only_managed("cluster")
    name = _changeable(parts, request["capacityProvider"])
    key = providers.key_of(name)
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(parts.store, CapacityProviderRecord, key)
        if found is None or found.record.status != ACTIVE:
            raise providers.missing(name)
        async for _, cluster in access.scan(parts.store, ClusterRecord, records.CLUSTERS):
            if cluster.status == ACTIVE and name in cluster.capacity_providers:
                raise ClientException(
                    "The capacity provider cannot be deleted because it is associated with cluster: "
                    f"{cluster.name}. Remove the capacity provider from the cluster and try again."
                )
        gone = replace(
            found.record,
            status=INACTIVE,
            update_status="DELETE_COMPLETE",
            inactive_at=parts.clock(),
        )
        # A cluster that takes the provider at the same time puts its key (``providers.taken``).
        done = await parts.store.txn([unchanged(found.kv)], [Put(key, records.encode(gone))])
        if done.succeeded:
            return {"capacityProvider": _show(parts, gone, with_tags=True)}
        await tries.again()


async def describe_capacity_providers(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe capacity providers by name or ARN; without names, all, or those of ``cluster``."""
    size = page_size({"maxResults": _PAGE_LIMIT, **request}, most=_PAGE_LIMIT)
    after = start_after("DescribeCapacityProviders", request)
    given = request.get("capacityProviders", [])
    at_most(given, DESCRIBE_LIMIT, "capacityProviders")
    known = await _known(parts, with_tags="TAGS" in request.get("include", ()))
    if request.get("cluster"):
        cluster = await active_cluster(parts, request)
        known = {name: known[name] for name in cluster.capacity_providers if name in known}
    names = list(dict.fromkeys(providers.name_of(parts.names, text) for text in given))
    shown = [known[name] for name in names if name in known] if given else list(known.values())
    places = [one["name"] for one in shown]
    first = places.index(after) + 1 if after in places else 0
    page = shown[first : first + size]
    answer: dict[str, Any] = {
        "capacityProviders": page,
        "failures": [_failure(parts, name) for name in names if name not in known],
    }
    if first + size < len(shown):
        last = page[-1]["name"]
        answer["nextToken"] = token("DescribeCapacityProviders", request, last)
    return answer


async def _known(parts: Parts, *, with_tags: bool) -> dict[str, dict[str, Any]]:
    shown: dict[str, dict[str, Any]] = {
        name: {
            "capacityProviderArn": parts.names.capacity_provider(name),
            "name": name,
            "status": ACTIVE,
            "type": name,
            "tags": [],
        }
        for name in sorted(capacity.FARGATE_PROVIDERS)
    }
    async for _, record in _all(parts):
        shown[record.name] = _show(parts, record, with_tags=with_tags)
    return shown


def _failure(parts: Parts, name: str) -> dict[str, str]:
    arn = name if name.startswith("arn:") else parts.names.capacity_provider(name)
    return {"arn": arn, "reason": "MISSING"}


def _all(parts: Parts) -> Any:
    return access.scan(parts.store, CapacityProviderRecord, providers.PREFIX)


def _check_kind(request: Mapping[str, Any]) -> None:
    """Raise ``ApiError`` for capacity that Amazon would manage."""
    for member in ("managedInstancesProvider", "cluster"):
        if request.get(member):
            raise _only_managed(member)


def _only_managed(member: str) -> UnsupportedFeatureException:
    return UnsupportedFeatureException(
        f"'{member}' is not supported: there are no managed instances here; leave it out. "
        "PutClusterCapacityProviders gives a cluster its capacity providers."
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise InvalidParameterException(
            "Invalid capacity provider name: only letters, numbers, hyphens and underscores are "
            f"allowed, and at most {NAME_LENGTH} of them, as in the value of an attribute."
        )
    if name.lower().startswith(_RESERVED):
        raise InvalidParameterException(
            f"Invalid capacity provider name: it must not begin with {', '.join(_RESERVED)}."
        )


def _check_others(new: CapacityProviderRecord, others: list[CapacityProviderRecord]) -> None:
    if any(one.name == new.name for one in others):
        raise ClientException(
            f"A capacity provider with the name {new.name} already exists. Specify a different name "
            "and try again."
        )
    group = new.auto_scaling_group["autoScalingGroupArn"]
    if any(one.auto_scaling_group["autoScalingGroupArn"] == group for one in others):
        raise ClientException(
            "The specified Auto Scaling group ARN is already being used by another capacity "
            "provider. Specify a unique Auto Scaling group ARN and try again."
        )
    if len(others) >= PROVIDERS_LIMIT:
        raise LimitExceededException(
            f"The maximum number of capacity providers, {PROVIDERS_LIMIT}, has been reached."
        )


def _changeable(parts: Parts, text: str) -> str:
    name = providers.name_of(parts.names, text)
    if name in capacity.FARGATE_PROVIDERS:
        raise ClientException(
            f"The capacity provider {name} is reserved: it cannot be changed or deleted."
        )
    return name


def _has_hook(parts: Parts, name: str) -> bool:
    return parts.host_hooks is not None and parts.host_hooks.of(name) is not None


def _show(parts: Parts, record: CapacityProviderRecord, *, with_tags: bool) -> dict[str, Any]:
    trouble = ""
    if record.is_scaled and parts.host_hooks is not None:
        trouble = parts.host_hooks.trouble(record.name)
    return {
        "capacityProviderArn": record.arn,
        "name": record.name,
        "status": record.status,
        "autoScalingGroupProvider": record.auto_scaling_group,
        "updateStatus": record.update_status,
        "updateStatusReason": trouble or None,
        "type": "EC2_AUTOSCALING",
        "tags": show_tags(record.tags) if with_tags else [],
    }


HANDLERS: Handlers = {
    "CreateCapacityProvider": create_capacity_provider,
    "UpdateCapacityProvider": update_capacity_provider,
    "DeleteCapacityProvider": delete_capacity_provider,
    "DescribeCapacityProviders": describe_capacity_providers,
}
