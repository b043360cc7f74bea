"""The loop of services over a real store: several at once, restarts, wakes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from agent.controlplane import access, records
from agent.controlplane.api.ecs import operations
from agent.controlplane.front.errors import ClientException
from agent.controlplane.names import new_id
from agent.controlplane.parts import Parts
from agent.controlplane.records import (
    AliveRecord,
    AttributeRecord,
    InstanceRecord,
    TaskRecord,
)
from agent.controlplane.services import launching
from agent.controlplane.services.loop import ServiceLoop
from agent.controlplane.services.record import ServiceRecord
from agent.controlplane.store.contract import Put, StoreFull
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import HostResources
from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HANDLERS = operations.handlers()


async def call(parts: Parts, operation: str, **request: Any) -> dict[str, Any]:
    return await HANDLERS[operation](parts, request)


async def add_host(parts: Parts) -> InstanceRecord:
    instance_id = new_id()
    record = InstanceRecord(
        id=instance_id,
        arn=parts.names.instance("default", instance_id),
        cluster="default",
        client_token=instance_id,
        resources=HostResources(cpu_units=40_960, memory_mib=81_920),
        attributes={"ecs.os-type": AttributeRecord(value="linux")},
    )
    lease = await parts.store.grant_lease(60)
    puts = [
        Put(records.instance_key("default", instance_id), records.encode(record)),
        Put(records.alive_key(instance_id), records.encode(AliveRecord(generation=1)), lease),
    ]
    await parts.store.txn([], puts)
    return record


async def live_tasks(parts: Parts) -> list[TaskRecord]:
    found = access.scan(parts.store, TaskRecord, records.TASKS)
    return [task async for _, task in found if task.desired_status == "RUNNING"]


async def read(parts: Parts) -> ServiceRecord:
    found = await access.find(parts.store, ServiceRecord, records.service_key("default", "shop"))
    assert found is not None
    return found.record


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    store = await SqliteStore.open(tmp_path / "control.db")
    made = Parts(store=store)
    await call(made, "CreateCluster")
    await call(made, "RegisterTaskDefinition", **definition())
    for _ in range(3):
        await add_host(made)
    yield made
    await store.close()


def another(parts: Parts) -> Parts:
    """Return what another process over the same store has: nothing in memory is shared."""
    return Parts(store=parts.store)


async def create(parts: Parts, **more: Any) -> None:
    request = {"serviceName": "shop", "taskDefinition": "web", "desiredCount": 6}
    await call(parts, "CreateService", **(request | more))


@pytest.mark.parametrize("scheduling", ["REPLICA", "DAEMON"])
async def test_loops_that_act_at_the_same_time_never_double(parts: Parts, scheduling: str) -> None:
    more = {"schedulingStrategy": scheduling}
    wanted = 6 if scheduling == "REPLICA" else 3
    if scheduling == "DAEMON":
        request = {"serviceName": "shop", "taskDefinition": "web", **more}
        await call(parts, "CreateService", **request)
    else:
        await create(parts, **more)
    loops = [ServiceLoop(another(parts)) for _ in range(4)]
    for force in range(3):
        if force:
            await call(parts, "UpdateService", service="shop", forceNewDeployment=True)
        await asyncio.gather(*(loop.settle() for loop in loops))
        primary = (await read(parts)).primary.id
        own = [task for task in await live_tasks(parts) if task.started_by == primary]
        assert len(own) == wanted
        assert len(await live_tasks(parts)) <= 2 * wanted


async def test_daemons_of_a_draining_host_do_not_wait_for_each_other(parts: Parts) -> None:
    for name in ("logs", "shop"):
        request = {"serviceName": name, "taskDefinition": "web", "schedulingStrategy": "DAEMON"}
        await call(parts, "CreateService", **request)
    loop = ServiceLoop(parts)
    await loop.settle()
    drained = (await live_tasks(parts))[0].instance_id
    await call(
        parts, "UpdateContainerInstancesState", containerInstances=[drained], status="DRAINING"
    )
    await loop.settle()
    left = [task.instance_id for task in await live_tasks(parts)]
    assert (len(left), drained in left) == (4, False)


async def test_a_draining_host_is_left_by_a_daemon_that_run_task_refuses(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"serviceName": "shop", "taskDefinition": "web", "schedulingStrategy": "DAEMON"}
    await call(parts, "CreateService", **request)
    loop = ServiceLoop(parts)
    await loop.settle()
    first, *others = [task.instance_id for task in await live_tasks(parts)]

    async def refuse(*_: object) -> NoReturn:
        raise ClientException("The role cannot be assumed.")

    monkeypatch.setattr(launching, "read_order", refuse)
    await call(
        parts, "UpdateContainerInstancesState", containerInstances=[first], status="DRAINING"
    )
    await loop.settle()
    assert [task.instance_id for task in await live_tasks(parts)] == others
    described = await call(parts, "DescribeServices", services=["shop"])
    messages = [event["message"] for event in described["services"][0]["events"]]
    assert sum("The role cannot be assumed." in message for message in messages) == 1


async def test_a_loop_that_dies_anywhere_is_continued_by_the_next(parts: Parts) -> None:
    await create(parts, desiredCount=50)
    for steps in range(1, 40):
        loop = asyncio.create_task(ServiceLoop(another(parts)).settle())
        for _ in range(3 * steps):
            await asyncio.sleep(0)
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
    await ServiceLoop(another(parts)).settle()
    assert len(await live_tasks(parts)) == 50


async def test_a_running_loop_wakes_by_itself(parts: Parts) -> None:
    loop = asyncio.create_task(ServiceLoop(parts).run())
    try:
        await create(parts)
        async with asyncio.timeout(20):
            while len(await live_tasks(parts)) < 6:  # noqa: ASYNC110 - the loop has no event for it
                await asyncio.sleep(0.01)
            await call(parts, "UpdateService", service="shop", desiredCount=1)
            while len(await live_tasks(parts)) > 1:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)
            await call(parts, "DeleteService", service="shop", force=True)
            while (await read(parts)).status != "INACTIVE":  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop


async def test_an_idle_loop_writes_and_reads_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(parts)
    loop = ServiceLoop(parts)
    await loop.settle()
    revision = parts.store.revision
    reads: list[str] = []
    for name in ("get", "get_many", "range", "txn"):
        monkeypatch.setattr(parts.store, name, lambda *_, name=name, **__: reads.append(name))
    await loop.settle()
    monkeypatch.undo()
    assert (parts.store.revision, reads) == (revision, [])


async def test_a_service_that_fails_does_not_stop_the_others(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("good", "faulty", "unlucky", "fine"):
        await create(parts, serviceName=name, desiredCount=1)
    now = [parts.clock()]
    loop = ServiceLoop(Parts(store=parts.store, clock=lambda: now[0]))
    act, faults = loop._act, {"faulty": KeyError("a bug"), "unlucky": StoreFull("no space")}

    async def acts(key: Any) -> bool:
        if key.name in faults:
            raise faults[key.name]
        return await act(key)

    monkeypatch.setattr(loop, "_act", acts)
    with pytest.raises(StoreFull):
        await loop.settle()
    assert {task.group for task in await live_tasks(parts)} == {"service:good", "service:fine"}
    faults.clear()
    now[0] += 2
    await loop.settle()
    assert len(await live_tasks(parts)) == 3, "the store is asked again after a moment"
    now[0] += 60
    await loop.settle()
    assert len(await live_tasks(parts)) == 4


async def test_only_services_that_changed_take_a_turn(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await create(parts, serviceName=f"s{number}", desiredCount=1)
    loop = ServiceLoop(parts)
    await loop.settle()
    turns: list[str] = []
    take_turn = loop._turn

    async def noted(key: Any) -> None:
        turns.append(key.name)
        await take_turn(key)

    monkeypatch.setattr(loop, "_turn", noted)
    await call(parts, "UpdateService", service="s7", desiredCount=2)
    await loop.settle()
    assert set(turns) == {"s7"}
