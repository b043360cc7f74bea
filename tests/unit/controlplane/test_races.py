"""What happens when somebody else acts between a reading and the commit that rests on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.controlplane import access, records, server
from agent.controlplane.agents import reports
from agent.controlplane.agents.leases import Leases
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.agents.registration import Registry
from agent.controlplane.front.errors import (
    ClusterContainsContainerInstancesException,
    InvalidParameterException,
)
from agent.controlplane.history import History
from agent.controlplane.janitor import STOPPED_TASK_S, Janitor
from agent.controlplane.parts import Services
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

HANDLERS = server.handlers()


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
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    store = await SqliteStore.open(tmp_path / "control.db")
    yield Services(store=store)
    await store.close()


def interrupted(services: Services, *acts: Callable[[], Awaitable[Any]]) -> Services:
    return Services(store=cast("Store", Interloper(services.store, *acts)), clock=services.clock)


async def call(services: Services, operation: str, **request: Any) -> dict[str, Any]:
    return await HANDLERS[operation](services, request)


async def register(
    services: Services, name: str = "host", cluster: str = "default"
) -> InstanceRecord:
    host = HostResources(cpu_units=1024, memory_mib=1024)
    told = Register(cluster=cluster, client_token=name, resources=host)
    record = await Registry(services, await History.open(services.store, "c")).register(told)
    await Leases(services.store, ttl_s=60.0, clock=services.clock).renew(record)
    return record


async def run_task(services: Services) -> str:
    answer = await call(services, "RunTask", taskDefinition="web")
    assert not answer["failures"]
    return str(answer["tasks"][0]["taskArn"])


async def task_of(services: Services, arn: str) -> TaskRecord:
    key = records.task_key("default", arn.rsplit("/", 1)[-1])
    found = await access.find(services.store, TaskRecord, key)
    assert found is not None
    return found.record


async def test_a_task_placed_while_its_idle_instance_is_deregistered(services: Services) -> None:
    instance = await register(services)
    await call(services, "RegisterTaskDefinition", **definition())
    between = interrupted(services, lambda: run_task(services))
    with pytest.raises(InvalidParameterException, match="running tasks"):
        await call(between, "DeregisterContainerInstance", containerInstance=instance.id)
    (found,) = [r async for _, r in access.scan(services.store, InstanceRecord, "/instances/")]
    assert found.status == "ACTIVE"


@pytest.mark.parametrize("operation", ["drain", "deregister"])
async def test_an_instance_taken_away_while_a_task_is_placed(
    services: Services, operation: str
) -> None:
    instance = await register(services)
    await register(services, "other")
    await call(services, "RegisterTaskDefinition", **definition())

    async def take_away() -> None:
        if operation == "drain":
            change = {"containerInstances": [instance.id], "status": "DRAINING"}
            await call(services, "UpdateContainerInstancesState", **change)
        else:
            await call(services, "DeregisterContainerInstance", containerInstance=instance.id)

    for _ in range(4):
        between = interrupted(services, take_away)
        await run_task(between)
    tasks = [task async for _, task in access.scan(services.store, TaskRecord, "/tasks/")]
    assert instance.id not in {task.instance_id for task in tasks}


async def test_a_host_registers_while_its_cluster_is_deleted(services: Services) -> None:
    await call(services, "CreateCluster", clusterName="c")
    between = interrupted(services, lambda: register(services, cluster="c"))
    with pytest.raises(ClusterContainsContainerInstancesException):
        await call(between, "DeleteCluster", cluster="c")


async def test_a_cluster_is_deleted_while_a_host_registers(services: Services) -> None:
    for name in ("c", "default"):
        await call(services, "CreateCluster", clusterName=name)

    def delete(name: str) -> Callable[[], Awaitable[Any]]:
        return lambda: call(services, "DeleteCluster", cluster=name)

    with pytest.raises(InvalidRequest, match="does not exist"):
        await register(interrupted(services, delete("c")), cluster="c")
    await register(interrupted(services, delete("default")), "2")
    default = await access.find(services.store, ClusterRecord, records.cluster_key("default"))
    assert default is not None
    assert default.record.status == "ACTIVE"


async def test_a_task_ends_while_it_is_being_stopped(services: Services) -> None:
    instance = await register(services)
    await call(services, "RegisterTaskDefinition", **definition())
    arn = await run_task(services)

    async def end() -> None:
        await reports.apply(services, instance, [a_report(arn, "STOPPED")])

    answer = await call(interrupted(services, end), "StopTask", task=arn)
    assert answer["task"]["lastStatus"] == "STOPPED"
    assert not (await services.store.range(records.ASSIGNMENTS)).items


async def test_a_task_is_stopped_while_its_end_is_reported(services: Services) -> None:
    instance = await register(services)
    await call(services, "RegisterTaskDefinition", **definition())
    arn = await run_task(services)
    between = interrupted(services, lambda: call(services, "StopTask", task=arn))
    await reports.apply(between, instance, [a_report(arn, "STOPPED")])
    task = await task_of(services, arn)
    assert (task.last_status, task.stop_code) == ("STOPPED", "UserInitiated")
    assert not (await services.store.range(records.ASSIGNMENTS)).items


@pytest.mark.parametrize("wrong_s", [-86400.0, 86400.0])
async def test_a_host_whose_clock_is_wrong(services: Services, wrong_s: float) -> None:
    """Its tasks can be described for an hour, and not for longer."""
    instance = await register(services)
    await call(services, "RegisterTaskDefinition", **definition())
    arn = await run_task(services)
    now = time.time()
    report = a_report(arn, "STOPPED", at=now + wrong_s, stopped_at=now + wrong_s)
    await reports.apply(services, instance, [report])
    soon = Services(store=services.store, clock=lambda: now + STOPPED_TASK_S - 10)
    assert await Janitor(soon).clean() == 0
    later = Services(store=services.store, clock=lambda: now + STOPPED_TASK_S + 10)
    assert await Janitor(later).clean() == 1


async def test_a_crash_in_the_middle_of_a_deregistration(services: Services) -> None:
    instance = await register(services)
    await call(services, "RegisterTaskDefinition", **definition())
    arn = await run_task(services)

    async def nothing() -> None:
        pass

    async def crash() -> None:
        raise KeyboardInterrupt

    between = interrupted(services, nothing, crash)
    with pytest.raises(KeyboardInterrupt):
        await call(
            between, "DeregisterContainerInstance", containerInstance=instance.id, force=True
        )
    assert (await task_of(services, arn)).last_status == "PENDING"
    await Janitor(services).clean()
    ended = await task_of(services, arn)
    assert (ended.last_status, ended.stop_code) == ("STOPPED", task_changes.FAILED_TO_START)
    assert not (await services.store.range(records.ASSIGNMENTS)).items
