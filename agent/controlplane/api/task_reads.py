"""DescribeTasks and ListTasks. Read the store, write nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from agent.controlplane import records
from agent.controlplane.api import pages, task_orders, task_shapes
from agent.controlplane.api.errors import InvalidParameterException
from agent.controlplane.names import parse_arn
from agent.controlplane.records import InstanceRecord, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.api.services import Services
    from agent.controlplane.store.contract import KeyValue

MAX_DESCRIBED = 100
_PAGE = 500
"""Tasks read from the store at a time while a filter looks for a page's worth."""


async def find_task(services: Services, cluster: str, given: str) -> tuple[KeyValue, TaskRecord]:
    """Return a task of the cluster by id or ARN, with the key it was read from.

    Raises:
        InvalidParameterException: there is none.
    """
    task_id = _task_id(services, cluster, given)
    kv = await services.store.get(records.task_key(cluster, task_id)) if task_id else None
    if kv is None:
        raise InvalidParameterException("The referenced task was not found.")
    return kv, records.decode(TaskRecord, kv)


def _task_id(services: Services, cluster: str, given: str) -> str:
    """Return the id of a task of this cluster; empty for an ARN of anything else."""
    if not given.startswith("arn:"):
        return "" if "/" in given else given
    arn = parse_arn(given)
    if arn is None or given != services.names.task(cluster, arn.id):
        return ""
    return arn.id


async def describe_tasks(services: Services, request: dict[str, Any]) -> dict[str, Any]:
    """Show up to 100 tasks; those that do not exist are in ``failures`` as MISSING."""
    cluster = await task_orders.find_cluster(services, request.get("cluster"))
    asked: list[str] = request["tasks"]
    if not asked:
        raise InvalidParameterException("Tasks cannot be empty.")
    if len(asked) > MAX_DESCRIBED:
        raise InvalidParameterException(f"tasks can have at most {MAX_DESCRIBED} items.")
    keys = {}
    for given in dict.fromkeys(asked):
        task_id = _task_id(services, cluster.name, given)
        keys[given] = records.task_key(cluster.name, task_id) if task_id else ""
    found = await services.store.get_many({key for key in keys.values() if key})
    tasks = {kv.key: records.decode(TaskRecord, kv) for kv in found.values()}
    alive = await services.store.get_many(
        {records.alive_key(task.instance_id) for task in tasks.values()}
    )
    with_tags = "TAGS" in request.get("include", ())
    shown = dict.fromkeys(key for key in keys.values() if key in tasks)
    return {
        "tasks": [
            task_shapes.task(
                tasks[key],
                services.names,
                connected=records.alive_key(tasks[key].instance_id) in alive,
                with_tags=with_tags,
            )
            for key in shown
        ],
        "failures": [
            {"arn": _shown_arn(services, cluster.name, given), "reason": "MISSING"}
            for given, key in keys.items()
            if key not in tasks
        ],
    }


def _shown_arn(services: Services, cluster: str, given: str) -> str:
    return given if given.startswith("arn:") else services.names.task(cluster, given)


class _Listed(Struct, frozen=True, rename="camel"):
    """The few fields of a ``TaskRecord`` that a list is filtered by."""

    arn: str
    family: str = ""
    instance_id: str = ""
    started_by: str = ""
    group: str = ""
    desired_status: str = "RUNNING"
    launch_type: str = "EC2"


async def list_tasks(services: Services, request: dict[str, Any]) -> dict[str, Any]:
    """List task ARNs by id; without ``desiredStatus`` those that are to run."""
    cluster = await task_orders.find_cluster(services, request.get("cluster"))
    wanted = await _filter(services, cluster.name, request)
    size = pages.page_size(request)
    prefix = records.tasks_prefix(cluster.name)
    last = pages.start_after("ListTasks", request)
    start_after = None if last is None else f"{prefix}{last}"
    arns: list[str] = []
    while True:
        page = await services.store.range(prefix, start_after=start_after, limit=_PAGE)
        for kv in page.items:
            listed = records.decode(_Listed, kv)
            if not wanted(listed):
                continue
            if len(arns) == size:
                token = pages.token("ListTasks", request, records.last_element(arns[-1]))
                return {"taskArns": arns, "nextToken": token}
            arns.append(listed.arn)
        if not page.more:
            return {"taskArns": arns}
        start_after = page.items[-1].key


async def _filter(
    services: Services, cluster: str, request: Mapping[str, Any]
) -> Callable[[_Listed], bool]:
    wanted: dict[str, str] = {}
    if "startedBy" in request:
        others = {"family", "serviceName", "containerInstance", "launchType"} & set(request)
        if others:
            raise InvalidParameterException("startedBy cannot be combined with other filters.")
        wanted["started_by"] = request["startedBy"]
    if "family" in request:
        wanted["family"] = request["family"]
    if "serviceName" in request:
        wanted["group"] = f"service:{request['serviceName'].rsplit('/', 1)[-1]}"
    if "launchType" in request:
        wanted["launch_type"] = request["launchType"]
    if "containerInstance" in request:
        wanted["instance_id"] = await _instance_id(services, cluster, request["containerInstance"])
    # No task is ever wanted PENDING: ECS gives an empty list for it too.
    wanted["desired_status"] = request.get("desiredStatus", "RUNNING")
    return lambda listed: all(getattr(listed, name) == value for name, value in wanted.items())


async def _instance_id(services: Services, cluster: str, given: str) -> str:
    arn = services.names.instance(cluster, records.last_element(given))
    kv = None
    if not given.startswith("arn:") or given == arn:
        kv = await services.store.get(records.instance_key(cluster, records.last_element(given)))
    if kv is None:
        raise InvalidParameterException(
            "The referenced container instance was not found in the cluster."
        )
    return records.decode(InstanceRecord, kv).id
