"""What happens when somebody else acts between a reading and the commit that rests on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.controlplane import access, records
from agent.controlplane.agents import reports
from agent.controlplane.agents.incumbents import Incumbents
from agent.controlplane.agents.leases import Leases
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.agents.registration import InstanceRegistry
from agent.controlplane.agents.wakeups import WakeUps
from agent.controlplane.api.ecs import operations
from agent.controlplane.front.errors import (
    ClusterContainsContainerInstancesException,
    InvalidParameterException,
)
from agent.controlplane.history import History
from agent.controlplane.janitor import STOPPED_TASK_S, Janitor
from agent.controlplane.parts import Parts
from agent.controlplane.records import ClusterRecord, InstanceRecord, TaskRecord
from agent.controlplane.store.sqlite import SqliteStore
from agent.controlplane.tasks import changes as task_changes
from agent.model.resources import HostResources
from agent.model.wire import Register
from tests.support.control_endpoint import a_report, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agent.controlplane.store.contract import Store

HANDLERS = operations.handlers()


class Interloper:
    """A store in whose first transactions somebody else gets in before."""

    def __init__(self, store: Store, *acts: Callable[[], Awaitable[Any]]) -> None:
        self._store = store
        self._acts = list(acts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def txn(self, *arguments: Any, **more: Any) -> Any:
        if self._acts:
            await self._acts.pop(0)()
        return await self._store.txn(*arguments, **more)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    store = await SqliteStore.open(tmp_path / "control.db")
    yield Parts(store=store)
    await store.close()


def interrupted(parts: Parts, *acts: Callable[[], Awaitable[Any]]) -> Parts:
    return Parts(store=cast("Store", Interloper(parts.store, *acts)), clock=parts.clock)


async def call(parts: Parts, operation: str, **request: Any) -> dict[str, Any]:
    return await HANDLERS[operation](parts, request)


async def register(parts: Parts, name: str = "host", cluster: str = "default") -> InstanceRecord:
    host = HostResources(cpu_units=1024, memory_mib=1024)
    told = Register(cluster=cluster, client_token=name, resources=host)
    record = await InstanceRegistry(
        parts,
        await History.open(parts.store, "c"),
        incumbents=Incumbents(parts.store, WakeUps(parts.store)),
    ).register(told)
    await Leases(parts.store, ttl_s=60.0, clock=parts.clock).renew(record)
    return record


async def run_task(parts: Parts) -> str:
    answer = await call(parts, "RunTask", taskDefinition="web")
    assert not answer["failures"]
    return str(answer["tasks"][0]["taskArn"])


async def task_of(parts: Parts, arn: str) -> TaskRecord:
    key = records.task_key("default", arn.rsplit("/", 1)[-1])
    found = await access.find(parts.store, TaskRecord, key)
    assert found is not None
    return found.record


async def test_a_task_placed_while_its_idle_instance_is_deregistered(parts: Parts) -> None:
    instance = await register(parts)
    await call(parts, "RegisterTaskDefinition", **definition())
    between = interrupted(parts, lambda: run_task(parts))
    with pytest.raises(InvalidParameterException, match="running tasks"):
        await call(between, "DeregisterContainerInstance", containerInstance=instance.id)
    (found,) = [r async for _, r in access.scan(parts.store, InstanceRecord, "/instances/")]
    assert found.status == "ACTIVE"


@pytest.mark.parametrize("operation", ["drain", "deregister"])
async def test_an_instance_taken_away_while_a_task_is_placed(parts: Parts, operation: str) -> None:
    instance = await register(parts)
    await register(parts, "other")
    await call(parts, "RegisterTaskDefinition", **definition())

    async def take_away() -> None:
        if operation == "drain":
            change = {"containerInstances": [instance.id], "status": "DRAINING"}
            await call(parts, "UpdateContainerInstancesState", **change)
        else:
            await call(parts, "DeregisterContainerInstance", containerInstance=instance.id)

    for _ in range(4):
        between = interrupted(parts, take_away)
        await run_task(between)
    tasks = [task async for _, task in access.scan(parts.store, TaskRecord, "/tasks/")]
    assert instance.id not in {task.instance_id for task in tasks}


async def test_a_host_registers_while_its_cluster_is_deleted(parts: Parts) -> None:
    await call(parts, "CreateCluster", clusterName="c")
    between = interrupted(parts, lambda: register(parts, cluster="c"))
    with pytest.raises(ClusterContainsContainerInstancesException):
        await call(between, "DeleteCluster", cluster="c")


async def test_a_cluster_is_deleted_while_a_host_registers(parts: Parts) -> None:
    for name in ("c", "default"):
        await call(parts, "CreateCluster", clusterName=name)

    def delete(name: str) -> Callable[[], Awaitable[Any]]:
        return lambda: call(parts, "DeleteCluster", cluster=name)

    with pytest.raises(InvalidRequest, match="does not exist"):
        await register(interrupted(parts, delete("c")), cluster="c")
    await register(interrupted(parts, delete("default")), "2")
    default = await access.find(parts.store, ClusterRecord, records.cluster_key("default"))
    assert default is not None
    assert default.record.status == "ACTIVE"


async def test_a_task_ends_while_it_is_being_stopped(parts: Parts) -> None:
    instance = await register(parts)
    await call(parts, "RegisterTaskDefinition", **definition())
    arn = await run_task(parts)

    async def end() -> None:
        await reports.apply(parts, instance, [a_report(arn, "STOPPED")])

    answer = await call(interrupted(parts, end), "StopTask", task=arn)
    assert answer["task"]["lastStatus"] == "STOPPED"
    assert not (await parts.store.range(records.ASSIGNMENTS)).items


async def test_a_task_is_stopped_while_its_end_is_reported(parts: Parts) -> None:
    instance = await register(parts)
    await call(parts, "RegisterTaskDefinition", **definition())
    arn = await run_task(parts)
    between = interrupted(parts, lambda: call(parts, "StopTask", task=arn))
    await reports.apply(between, instance, [a_report(arn, "STOPPED")])
    task = await task_of(parts, arn)
    assert (task.last_status, task.stop_code) == ("STOPPED", "UserInitiated")
    assert not (await parts.store.range(records.ASSIGNMENTS)).items


@pytest.mark.parametrize("wrong_s", [-86400.0, 86400.0])
async def test_a_host_whose_clock_is_wrong(parts: Parts, wrong_s: float) -> None:
    """Its tasks can be described for an hour, and not for longer."""
    instance = await register(parts)
    await call(parts, "RegisterTaskDefinition", **definition())
    arn = await run_task(parts)
    now = time.time()
    report = a_report(arn, "STOPPED", at=now + wrong_s, stopped_at=now + wrong_s)
    await reports.apply(parts, instance, [report])
    soon = Parts(store=parts.store, clock=lambda: now + STOPPED_TASK_S - 10)
    assert await Janitor(soon).clean() == 0
    later = Parts(store=parts.store, clock=lambda: now + STOPPED_TASK_S + 10)
    assert await Janitor(later).clean() == 1


async def test_a_crash_in_the_middle_of_a_deregistration(parts: Parts) -> None:
    instance = await register(parts)
    await call(parts, "RegisterTaskDefinition", **definition())
    arn = await run_task(parts)

    async def nothing() -> None:
        pass

    async def crash() -> None:
        raise KeyboardInterrupt

    between = interrupted(parts, nothing, crash)
    with pytest.raises(KeyboardInterrupt):
        await call(
            between, "DeregisterContainerInstance", containerInstance=instance.id, force=True
        )
    assert (await task_of(parts, arn)).last_status == "PENDING"
    await Janitor(parts).clean()
    ended = await task_of(parts, arn)
    assert (ended.last_status, ended.stop_code) == ("STOPPED", task_changes.FAILED_TO_START)
    assert not (await parts.store.range(records.ASSIGNMENTS)).items
