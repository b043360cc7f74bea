"""Create, Describe, List, Update and DeleteCluster, UpdateClusterSettings, PutClusterCapacityProviders.

A deleted cluster is stored as INACTIVE, as on Amazon ECS, and can be created again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs import (
    account_settings,
    cluster_capacity,
    command_logging,
    service_connect,
)
from agent.controlplane.api.ecs.naming import DESCRIBE_LIMIT, at_most, cluster_name, names_it
from agent.controlplane.api.ecs.tags import read_tags, show_tags
from agent.controlplane.front.errors import (
    ClientException,
    ClusterContainsContainerInstancesException,
    ClusterContainsServicesException,
    ClusterContainsTasksException,
    ClusterNotFoundException,
    InvalidParameterException,
)
from agent.controlplane.front.pages import page_size, start_after, token
from agent.controlplane.records import ClusterRecord
from agent.controlplane.store.contract import Put, as_read, unchanged
from agent.controlplane.tasks import capacity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from agent.controlplane.parts import Handlers, Parts


_INSIGHTS = account_settings.CONTAINER_INSIGHTS
"""Stored and shown. It concerns CloudWatch; here, metrics of all tasks are collected in any case."""
_INSIGHTS_VALUES = ("enabled", "disabled", "enhanced")


class _Status(Struct, rename="camel"):
    """The fields of a task or an instance that are needed for counting; others are not decoded."""

    last_status: str = "PENDING"
    status: str = "ACTIVE"
    launch_type: str = capacity.EC2


async def create_cluster(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a cluster; an existing one is returned unchanged."""
    name = cluster_name(request.get("clusterName"))
    _check(request)
    new = ClusterRecord(
        name=name,
        arn=parts.names.cluster(name),
        created_at=parts.clock(),
        settings=request.get("settings") or await _default_settings(parts),
        configuration=request.get("configuration", {}),
        default_strategy=capacity.with_defaults(request.get("defaultCapacityProviderStrategy", [])),
        tags=read_tags(request.get("tags", [])),
    )
    cluster = await _created(parts, new, request)
    counts = await _count(parts, name)
    return {"cluster": _show(cluster, counts, {"TAGS", "SETTINGS", "CONFIGURATIONS"})}


async def _created(parts: Parts, new: ClusterRecord, request: Mapping[str, Any]) -> ClusterRecord:
    """Return the cluster as it is stored: a new one with the capacity providers of the request, or the old one."""
    key = records.cluster_key(new.name)
    given = request.get("capacityProviders", [])
    tries = access.ConflictRetries(key)
    while True:
        providers, exist, uses = await cluster_capacity.taken(parts, given, request)
        found = await access.find(parts.store, ClusterRecord, key)
        if found is not None and found.record.status == "ACTIVE":
            return found.record
        namespace = await service_connect.default_namespace(parts, request)
        made = replace(new, capacity_providers=providers, connect_namespace=namespace or "")
        compares = [as_read(key, found.kv if found is not None else None), *exist]
        then = [Put(key, records.encode(made)), *uses]
        if (await parts.store.txn(compares, then)).succeeded:
            return made
        await tries.again()


async def _default_settings(parts: Parts) -> list[dict[str, str]]:
    value = await account_settings.default_of(parts.store, _INSIGHTS)
    return [] if value == "disabled" else [{"name": _INSIGHTS, "value": value}]


async def update_cluster(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change settings and configuration of a cluster; what the request leaves out stays."""
    _check(request)
    namespace = await service_connect.default_namespace(parts, request)

    def decide(cluster: ClusterRecord) -> ClusterRecord:
        return replace(
            cluster,
            settings=request.get("settings") or cluster.settings,
            configuration=request.get("configuration") or cluster.configuration,
            connect_namespace=cluster.connect_namespace if namespace is None else namespace,
        )

    return await _change(parts, request, decide, {"TAGS", "SETTINGS", "CONFIGURATIONS"})


async def update_cluster_settings(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Replace the settings of a cluster."""
    _check(request)
    settings = request["settings"]
    return await _change(
        parts, request, lambda cluster: replace(cluster, settings=settings), {"SETTINGS"}
    )


async def _change(
    parts: Parts,
    request: Mapping[str, Any],
    decide: Callable[[ClusterRecord], ClusterRecord],
    include: Collection[str],
) -> dict[str, Any]:
    """Change the ACTIVE cluster that a request names, and return the response."""
    name = cluster_name(request["cluster"])

    def apply(cluster: ClusterRecord) -> ClusterRecord:
        if cluster.status != "ACTIVE" or not names_it(request["cluster"], cluster.arn):
            raise ClusterNotFoundException
        return decide(cluster)

    changed = await access.change(parts.store, ClusterRecord, records.cluster_key(name), apply)
    if changed is None:
        raise ClusterNotFoundException
    return {"cluster": _show(changed, await _count(parts, name), include)}


def _check(request: Mapping[str, Any]) -> None:
    """Raise ``ApiError`` for options that would be shown for the cluster but have no effect."""
    if any(request.get("configuration", {}).get("managedStorageConfiguration", {}).values()):
        raise ClientException(
            "'configuration.managedStorageConfiguration' is not supported: containers share the "
            "disk of their host; leave it out, and encrypt the host's disk."
        )
    command_logging.check(request.get("configuration", {}))
    for setting in request.get("settings", []):
        if setting.get("value") not in _INSIGHTS_VALUES:
            raise InvalidParameterException(
                f"The value of the cluster setting {_INSIGHTS} must be one of "
                f"[{','.join(_INSIGHTS_VALUES)}]."
            )


async def put_cluster_capacity_providers(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Replace the capacity providers and the default strategy of a cluster."""
    changed = await cluster_capacity.put(parts, request)
    counts = await _count(parts, changed.name)
    return {"cluster": _show(changed, counts, {"SETTINGS", "ATTACHMENTS"})}


async def describe_clusters(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe clusters by name or ARN; ``default`` if none is named."""
    given = request.get("clusters") or ["default"]
    at_most(given, DESCRIBE_LIMIT, "clusters")
    named: dict[str, str] = {}
    for text in given:
        named.setdefault(cluster_name(text), text)
    include = set(request.get("include", []))
    found = await access.find_many(
        parts.store, ClusterRecord, [records.cluster_key(name) for name in named]
    )
    clusters, failures = [], []
    for name, text in named.items():
        cluster = found.get(records.cluster_key(name))
        if cluster is None or not names_it(text, cluster.record.arn):
            arn = parts.names.cluster(name) if cluster is None else text
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            clusters.append(_show(cluster.record, await _count(parts, name), include))
    return {"clusters": clusters, "failures": failures}


async def list_clusters(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the ARNs of the ACTIVE clusters, in pages."""
    size = page_size(request)
    after = start_after("ListClusters", request)
    arns: list[str] = []
    last = ""
    async for kv, cluster in access.scan(
        parts.store, ClusterRecord, records.CLUSTERS, start_after=after
    ):
        if cluster.status != "ACTIVE":
            continue
        if len(arns) == size:
            return {"clusterArns": arns, "nextToken": token("ListClusters", request, last)}
        arns.append(cluster.arn)
        last = kv.key
    return {"clusterArns": arns}


async def delete_cluster(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set a cluster to INACTIVE; it must have no container instances, services and tasks."""
    name = cluster_name(request["cluster"])
    key, members_key = records.cluster_key(name), records.members_key(name)
    tries = access.ConflictRetries(key)
    while True:
        members = await parts.store.get(members_key)
        found = await access.find(parts.store, ClusterRecord, key)
        if found is None or found.record.status != "ACTIVE":
            raise ClusterNotFoundException
        if not names_it(request["cluster"], found.record.arn):
            raise ClusterNotFoundException
        counts = await _count(parts, name)
        if counts["instances"]:
            raise ClusterContainsContainerInstancesException
        if counts["services"]:
            raise ClusterContainsServicesException
        if counts["tasks"]:
            raise ClusterContainsTasksException
        gone = replace(found.record, status="INACTIVE")
        put = Put(key, records.encode(gone))
        compares = [unchanged(found.kv), as_read(members_key, members)]
        if (await parts.store.txn(compares, [put])).succeeded:
            return {"cluster": _show(gone, counts, set())}
        await tries.again()


async def _count(parts: Parts, name: str) -> Counter[str]:
    counts = Counter[str]()
    async for _, task in access.scan(parts.store, _Status, records.tasks_prefix(name)):
        if task.last_status != "STOPPED":
            counts["tasks"] += 1
            state = "running" if task.last_status == "RUNNING" else "pending"
            counts[state] += 1
            counts[f"{state} {task.launch_type}"] += 1
    async for _, instance in access.scan(parts.store, _Status, records.instances_prefix(name)):
        counts["instances"] += instance.status != "INACTIVE"
    await parts.services.read()
    for service in parts.services.services(name):
        if service.status != "INACTIVE":
            counts["services"] += 1
            is_fargate = bool(service.primary.platform_version)
            counts[f"{service.status} {capacity.FARGATE if is_fargate else capacity.EC2}"] += 1
            counts[service.status] += 1
    return counts


def _show(cluster: ClusterRecord, counts: Counter[str], include: Collection[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "clusterArn": cluster.arn,
        "clusterName": cluster.name,
        "status": cluster.status,
        "registeredContainerInstancesCount": counts["instances"],
        "runningTasksCount": counts["running"],
        "pendingTasksCount": counts["pending"],
        "activeServicesCount": counts["ACTIVE"],
        "statistics": _statistics(counts) if "STATISTICS" in include else [],
        "tags": show_tags(cluster.tags) if "TAGS" in include else [],
        "settings": _settings(cluster) if "SETTINGS" in include else [],
        "capacityProviders": cluster.capacity_providers,
        "defaultCapacityProviderStrategy": cluster.default_strategy,
    }
    if "ATTACHMENTS" in include and cluster.capacity_providers:
        # Nothing is attached: there are no Auto Scaling groups to be scaled or drained.
        shown |= {"attachments": [], "attachmentsStatus": "UPDATE_COMPLETE"}
    if "CONFIGURATIONS" in include and cluster.configuration:
        shown["configuration"] = cluster.configuration
    if cluster.connect_namespace:
        shown["serviceConnectDefaults"] = {"namespace": cluster.connect_namespace}
    return shown


def _settings(cluster: ClusterRecord) -> list[dict[str, str]]:
    """Return the settings; like the service, with the default of its one setting if it is not set."""
    if any(setting.get("name") == _INSIGHTS for setting in cluster.settings):
        return cluster.settings
    return [*cluster.settings, {"name": _INSIGHTS, "value": "disabled"}]


def _statistics(counts: Counter[str]) -> list[dict[str, str]]:
    """Return the statistics; tasks count as EC2, except those with launch type FARGATE."""
    fargate = {state: counts[f"{state} FARGATE"] for state in ("running", "pending")}
    values = {
        "runningEC2TasksCount": counts["running"] - fargate["running"],
        "runningFargateTasksCount": fargate["running"],
        "runningExternalTasksCount": 0,
        "pendingEC2TasksCount": counts["pending"] - fargate["pending"],
        "pendingFargateTasksCount": fargate["pending"],
        "pendingExternalTasksCount": 0,
        "activeEC2ServiceCount": counts["ACTIVE EC2"],
        "activeFargateServiceCount": counts["ACTIVE FARGATE"],
        "activeExternalServiceCount": 0,
        "drainingEC2ServiceCount": counts["DRAINING EC2"],
        "drainingFargateServiceCount": counts["DRAINING FARGATE"],
        "drainingExternalServiceCount": 0,
    }
    return [{"name": name, "value": str(value)} for name, value in values.items()]


HANDLERS: Handlers = {
    "CreateCluster": create_cluster,
    "DescribeClusters": describe_clusters,
    "ListClusters": list_clusters,
    "UpdateCluster": update_cluster,
    "UpdateClusterSettings": update_cluster_settings,
    "DeleteCluster": delete_cluster,
    "PutClusterCapacityProviders": put_cluster_capacity_providers,
}
