"""DescribeTasks and ListTasks: they read the store and write nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from agent.controlplane import access, records
from agent.controlplane.api.ecs import task_shapes
from agent.controlplane.api.ecs.naming import (
    DESCRIBE_LIMIT,
    active_cluster,
    at_most,
    resource_id,
    service_name,
)
from agent.controlplane.front import pages
from agent.controlplane.front.errors import InvalidParameterException, ServiceNotFoundException
from agent.controlplane.records import TaskRecord
from agent.controlplane.services.record import group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.access import Found
    from agent.controlplane.parts import Parts

NO_SUCH_TASK = "The referenced task was not found."


async def find_task(parts: Parts, cluster: str, given: str) -> Found[TaskRecord]:
    """Return a task of the cluster by id or ARN, with its key.

    Raises:
        InvalidParameterException: the task does not exist.
    """
    key = records.task_key(cluster, resource_id(parts.names, given, "task", cluster))
    found = await access.find(parts.store, TaskRecord, key)
    if found is None:
        raise InvalidParameterException(NO_SUCH_TASK)
    return found


async def describe_tasks(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe up to 100 tasks; those that do not exist are in ``failures`` as MISSING."""
    cluster = await active_cluster(parts, request)
    asked: list[str] = request["tasks"]
    if not asked:
        raise InvalidParameterException("Tasks cannot be empty.")
    at_most(asked, DESCRIBE_LIMIT, "tasks")
    keys = {
        given: records.task_key(cluster.name, resource_id(parts.names, given, "task", cluster.name))
        for given in dict.fromkeys(asked)
    }
    found = await access.find_many(parts.store, TaskRecord, keys.values())
    tasks = {key: read.record for key, read in found.items()}
    alive = await parts.store.get_many(
        {records.alive_key(task.instance_id) for task in tasks.values()}
    )
    with_tags = "TAGS" in request.get("include", ())
    shown = dict.fromkeys(key for key in keys.values() if key in tasks)
    return {
        "tasks": [
            task_shapes.task(
                tasks[key],
                parts.names,
                connected=records.alive_key(tasks[key].instance_id) in alive,
                with_tags=with_tags,
                waits_for=parts.roles.waiting(tasks[key].id),
            )
            for key in shown
        ],
        "failures": [
            {
                "arn": parts.names.task(cluster.name, records.last_element(key)),
                "reason": "MISSING",
            }
            for given, key in keys.items()
            if key not in tasks
        ],
    }


class _Listed(Struct, frozen=True, rename="camel"):
    """The fields of a ``TaskRecord`` that lists are filtered by."""

    arn: str
    family: str = ""
    instance_id: str = ""
    started_by: str = ""
    group: str = ""
    desired_status: str = "RUNNING"
    launch_type: str = "EC2"


async def list_tasks(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List task ARNs by id; without ``desiredStatus``, tasks that should run."""
    cluster = await active_cluster(parts, request)
    wanted = await _filter(parts, cluster.name, request)
    size = pages.page_size(request)
    after = pages.start_after("ListTasks", request)
    arns: list[str] = []
    last = ""
    async for kv, listed in access.scan(
        parts.store, _Listed, records.tasks_prefix(cluster.name), start_after=after
    ):
        if not wanted(listed):
            continue
        if len(arns) == size:
            return {"taskArns": arns, "nextToken": pages.token("ListTasks", request, last)}
        arns.append(listed.arn)
        last = kv.key
    return {"taskArns": arns}


async def _filter(
    parts: Parts, cluster: str, request: Mapping[str, Any]
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
        name = service_name(parts.names, request["serviceName"], cluster)
        if await parts.store.get(records.service_key(cluster, name)) is None:
            raise ServiceNotFoundException
        wanted["group"] = group(name)
    if "launchType" in request:
        wanted["launch_type"] = request["launchType"]
    if "containerInstance" in request:
        wanted["instance_id"] = await _instance_id(parts, cluster, request["containerInstance"])
    # No task has the desired status PENDING; ECS also returns an empty list for it.
    wanted["desired_status"] = request.get("desiredStatus", "RUNNING")
    return lambda listed: all(getattr(listed, name) == value for name, value in wanted.items())


async def _instance_id(parts: Parts, cluster: str, given: str) -> str:
    instance_id = resource_id(parts.names, given, "container-instance", cluster)
    if await parts.store.get(records.instance_key(cluster, instance_id)) is None:
        raise InvalidParameterException(
            "The referenced container instance was not found in the cluster."
        )
    return instance_id
