"""GetTaskProtection and UpdateTaskProtection, by boto3 against a real server and store."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import TaskRecord
from agent.controlplane.store.contract import Put
from agent.controlplane.tasks.protection import is_protected

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

SERVICE = "service:web"


async def a_task(endpoint: Endpoint, **values: Any) -> TaskRecord:
    """A task of a service, as the scheduler of services will make it."""
    task = await endpoint.add_task(await endpoint.add_instance())
    task = replace(task, **({"group": SERVICE} | values))
    await endpoint.parts.store.txn(
        [], [Put(records.task_key(task.cluster, task.id), records.encode(task))]
    )
    return task


async def record(endpoint: Endpoint, task: TaskRecord) -> TaskRecord:
    key = records.task_key(task.cluster, task.id)
    found = await access.find(endpoint.parts.store, TaskRecord, key)
    assert found is not None
    return found.record


def at(unix_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC)


async def test_a_task_is_protected_until_its_time_has_come(
    endpoint: Endpoint, cluster: str
) -> None:
    task, other = await a_task(endpoint), await a_task(endpoint)
    ask = {"cluster": cluster, "tasks": [task.id, other.arn]}
    began = endpoint.now[0]
    answer = await endpoint.call("update_task_protection", **ask, protectionEnabled=True)
    assert answer["failures"] == []
    assert answer["protectedTasks"] == [
        {"taskArn": each.arn, "protectionEnabled": True, "expirationDate": at(began + 7200)}
        for each in (task, other)
    ]
    # Set again, it begins again.
    endpoint.now[0] += 600
    only = {"cluster": cluster, "tasks": [task.arn]}
    await endpoint.call(
        "update_task_protection", **only, protectionEnabled=True, expiresInMinutes=2880
    )
    endpoint.now[0] = began + 7200
    answer = await endpoint.call("get_task_protection", **ask)
    assert answer["protectedTasks"] == [
        {"taskArn": task.arn, "protectionEnabled": True, "expirationDate": at(began + 173400)},
        {"taskArn": other.arn, "protectionEnabled": False},
    ]
    assert is_protected(await record(endpoint, task), endpoint.now[0])
    assert not is_protected(await record(endpoint, other), endpoint.now[0])
    for _ in range(2):
        answer = await endpoint.call("update_task_protection", **only, protectionEnabled=False)
        assert answer["protectedTasks"] == [{"taskArn": task.arn, "protectionEnabled": False}]
    # Protection is not part of what DescribeTasks shows.
    assert (await record(endpoint, task)).version == task.version


async def test_failures_name_their_task_and_do_not_affect_others(
    endpoint: Endpoint, cluster: str
) -> None:
    good = await a_task(endpoint)
    alone = await a_task(endpoint, group="family:web")
    stopped = await a_task(endpoint, desired_status="STOPPED", last_status="STOPPED")
    stopping = await a_task(endpoint, desired_status="STOPPED")
    missing = "0" * 32
    tasks = [good.id, alone.id, stopped.id, stopping.id, missing]
    answer = await endpoint.call(
        "update_task_protection", cluster=cluster, tasks=tasks, protectionEnabled=True
    )
    assert [task["taskArn"] for task in answer["protectedTasks"]] == [good.arn]
    assert answer["failures"] == [
        {
            "arn": alone.arn,
            "reason": "TASK_NOT_VALID",
            "detail": "The task is not part of a service.",
        },
        {"arn": stopped.arn, "reason": "TASK_NOT_VALID", "detail": "The task has stopped."},
        {"arn": stopping.arn, "reason": "TASK_NOT_VALID", "detail": "The task is stopping."},
        {"arn": endpoint.parts.names.task(cluster, missing), "reason": "MISSING"},
    ]
    # One that is stopping may say that its work is done.
    answer = await endpoint.call(
        "update_task_protection", cluster=cluster, tasks=[stopping.id], protectionEnabled=False
    )
    assert answer["failures"] == []
    answer = await endpoint.call("get_task_protection", cluster=cluster, tasks=tasks)
    assert [one["arn"] for one in answer["failures"]] == [
        alone.arn,
        stopped.arn,
        endpoint.parts.names.task(cluster, missing),
    ]


async def test_a_task_that_is_ordered_to_stop_is_not_protected(
    endpoint: Endpoint, cluster: str
) -> None:
    task = await a_task(endpoint)
    ask = {"cluster": cluster, "tasks": [task.id]}
    await endpoint.call("update_task_protection", **ask, protectionEnabled=True)
    await endpoint.call("stop_task", cluster=cluster, task=task.id)
    assert not is_protected(await record(endpoint, task), endpoint.now[0])
    answer = await endpoint.call("get_task_protection", **ask)
    assert answer["protectedTasks"] == [{"taskArn": task.arn, "protectionEnabled": False}]


@pytest.mark.parametrize("minutes", [-1, 0, 2881])
async def test_a_time_that_is_too_short_or_too_long_is_refused(
    endpoint: Endpoint, cluster: str, minutes: int
) -> None:
    task = await a_task(endpoint)
    name, text = await endpoint.refused(
        "update_task_protection",
        cluster=cluster,
        tasks=[task.id],
        protectionEnabled=True,
        expiresInMinutes=minutes,
    )
    assert name == "InvalidParameterException"
    assert text == f"expiresInMinutes must be between 1 and 2880, not {minutes}."
    assert await record(endpoint, task) == task


async def test_limits_of_one_call(endpoint: Endpoint, cluster: str) -> None:
    for operation, more, most in (
        ("get_task_protection", {}, 100),
        ("update_task_protection", {"protectionEnabled": True}, 10),
    ):
        for tasks, text in (
            ([], "Tasks cannot be empty."),
            (["0" * 32] * (most + 1), f"tasks can have at most {most} items."),
            (["short"], "taskId length should be one of [32,36]"),
        ):
            refused = await endpoint.refused(operation, cluster=cluster, tasks=tasks, **more)
            assert refused == ("InvalidParameterException", text)
        name, _ = await endpoint.refused(operation, cluster="none", tasks=["0" * 32], **more)
        assert name == "ClusterNotFoundException"


async def test_calls_at_the_same_time_all_count(endpoint: Endpoint, cluster: str) -> None:
    tasks = [await a_task(endpoint) for _ in range(3)]
    ids = [task.id for task in tasks]
    async with asyncio.TaskGroup() as group:
        for minutes in range(1, 9):
            group.create_task(
                endpoint.call(
                    "update_task_protection",
                    cluster=cluster,
                    tasks=ids,
                    protectionEnabled=True,
                    expiresInMinutes=minutes,
                )
            )
    # Each call changes all of its tasks in one transaction, so all have the same time.
    untils = {(await record(endpoint, task)).protected_until for task in tasks}
    assert len(untils) == 1
    assert untils <= {endpoint.now[0] + 60 * minutes for minutes in range(1, 9)}
