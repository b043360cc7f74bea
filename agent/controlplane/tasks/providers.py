"""Capacity providers that operators create: what is stored, and that clusters only have those that exist.

Such a provider has the hosts that name it in an attribute (``placement.CAPACITY_PROVIDER``). A cluster and
the providers that it names change in one transaction, which puts the providers unchanged: so a provider
cannot be deleted while a cluster takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import field

from agent.controlplane import access
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.names import parse_arn
from agent.controlplane.records import Record
from agent.controlplane.store.contract import Put, unchanged
from agent.controlplane.tasks.capacity import FARGATE_PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Compare, Op, Store

PREFIX = "/capacity-providers/"
GUARD_KEY = "/meta/capacityProviders"
"""Put by everyone who creates one, after comparing it."""
ACTIVE = "ACTIVE"
INACTIVE = "INACTIVE"
OF_CLUSTER_LIMIT = 20
"""Capacity providers of one cluster; Amazon's quota."""


class CapacityProviderRecord(Record, frozen=True):
    """A capacity provider that an operator created."""

    name: str
    arn: str
    status: str = ACTIVE
    """ACTIVE or INACTIVE (deleted, but still described for a while)."""
    update_status: str = ""
    auto_scaling_group: dict[str, Any] = field(default_factory=dict)
    """``autoScalingGroupProvider``, with all defaults."""
    tags: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    inactive_at: float = 0.0

    @property
    def is_scaled(self) -> bool:
        """Whether hosts are added and removed for its tasks (managed scaling)."""
        scaling = self.auto_scaling_group.get("managedScaling", {})
        return self.status == ACTIVE and scaling.get("status") == "ENABLED"


def key_of(name: str) -> str:
    """Return the key of a capacity provider."""
    return f"{PREFIX}{name}"


def name_of(names: Names, text: str) -> str:
    """Return the name of a capacity provider given by name or ARN; an ARN of others stays as it is."""
    arn = parse_arn(text)
    if arn is None or arn.kind != "capacity-provider" or len(arn.path) != 1 or not names.owns(arn):
        return text
    return arn.id


async def taken(
    store: Store, names: Names, given: Sequence[str]
) -> tuple[list[str], list[Compare], list[Op]]:
    """Return the names of a cluster's capacity providers, and what its transaction must compare and do.

    Raises:
        InvalidParameterException: one does not exist, or there are too many.
    """
    wanted = list(dict.fromkeys(name_of(names, text) for text in given))
    if len(wanted) > OF_CLUSTER_LIMIT:
        raise InvalidParameterException(
            f"A cluster can have at most {OF_CLUSTER_LIMIT} capacity providers."
        )
    found = await access.find_many(store, CapacityProviderRecord, _keys(wanted))
    for name in wanted:
        one = found.get(key_of(name))
        if name not in FARGATE_PROVIDERS and (one is None or one.record.status != ACTIVE):
            raise missing(name)
    kvs = [one.kv for one in found.values()]
    return wanted, [unchanged(kv) for kv in kvs], [Put(kv.key, kv.value) for kv in kvs]


def missing(name: str) -> InvalidParameterException:
    """Return the error for a capacity provider that does not exist."""
    return InvalidParameterException(
        f"The specified capacity provider '{name[:255]}' was not found. Specify a valid name or ARN "
        "and try again."
    )


def _keys(names: Iterable[str]) -> list[str]:
    return [key_of(name) for name in names if name not in FARGATE_PROVIDERS]
