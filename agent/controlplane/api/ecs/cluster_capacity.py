"""The capacity providers of a cluster and its default strategy: checked, replaced, and kept while used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs.naming import cluster_name, names_it
from agent.controlplane.front.errors import ClusterNotFoundException, ResourceInUseException
from agent.controlplane.records import ClusterRecord
from agent.controlplane.services.record import ACTIVE
from agent.controlplane.store.contract import Put, unchanged
from agent.controlplane.tasks import capacity, providers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.parts import Parts
    from agent.controlplane.store.contract import Compare, Op


class _Task(Struct, rename="camel"):
    """The fields of a task that matter here; others are not decoded."""

    last_status: str = "PENDING"
    capacity_provider: str = ""


async def taken(
    parts: Parts, given: Sequence[str], request: Mapping[str, Any]
) -> tuple[list[str], list[Compare], list[Op]]:
    """Return the names of the providers of a request, and what its transaction must compare and do.

    Raises:
        InvalidParameterException: a provider does not exist, or the default strategy breaks a rule.
    """
    found = await providers.taken(parts.store, parts.names, given)
    capacity.read_strategy(request.get("defaultCapacityProviderStrategy", []), known=found[0])
    return found


async def put(parts: Parts, request: Mapping[str, Any]) -> ClusterRecord:
    """Replace the capacity providers and the default strategy of a cluster, and return it.

    Raises:
        ClusterNotFoundException: there is no such cluster.
        InvalidParameterException: as ``taken``.
        ResourceInUseException: tasks or services use a provider that the cluster would lose.
    """
    key = records.cluster_key(cluster_name(request["cluster"]))
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(parts.store, ClusterRecord, key)
        if found is None or found.record.status != ACTIVE:
            raise ClusterNotFoundException
        if not names_it(request["cluster"], found.record.arn):
            raise ClusterNotFoundException
        wanted, exist, uses = await taken(parts, request["capacityProviders"], request)
        await _check_unused(parts, found.record, wanted)
        strategy = capacity.with_defaults(request["defaultCapacityProviderStrategy"])
        changed = replace(found.record, capacity_providers=wanted, default_strategy=strategy)
        then = [Put(key, records.encode(changed)), *uses]
        if (
            changed == found.record
            or (await parts.store.txn([unchanged(found.kv), *exist], then)).succeeded
        ):
            return changed
        await tries.again()


async def _check_unused(parts: Parts, cluster: ClusterRecord, wanted: Sequence[str]) -> None:
    """Raise ``ResourceInUseException`` if a provider that the cluster loses is used.

    A task that is started at this very moment is not seen. It keeps running, as one of a provider that was removed.
    """
    gone = set(cluster.capacity_providers) - set(wanted)
    if not gone:
        return
    await parts.services.read()
    for service in parts.services.services(cluster.name):
        for deployment in service.running_deployments if service.status == ACTIVE else ():
            named = {one["capacityProvider"] for one in deployment.capacity_provider_strategy}
            if named & gone:
                raise ResourceInUseException(_used(min(named & gone), f"service {service.name}"))
    async for kv, task in access.scan(parts.store, _Task, records.tasks_prefix(cluster.name)):
        if task.last_status != "STOPPED" and task.capacity_provider in gone:
            user = f"task {records.last_element(kv.key)}"
            raise ResourceInUseException(_used(task.capacity_provider, user))


def _used(provider: str, user: str) -> str:
    return (
        f"The specified capacity provider is in use and cannot be removed: {provider} is used by the "
        f"{user}."
    )
