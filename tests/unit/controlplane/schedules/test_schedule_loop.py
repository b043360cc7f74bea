"""The loop of schedules over a real store: runs, several loops at once, restarts, no room."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import access, records
from agent.controlplane.api.ecs import operations as ecs
from agent.controlplane.api.events import operations as events
from agent.controlplane.api.scheduler import operations as scheduler
from agent.controlplane.janitor import Janitor
from agent.controlplane.names import new_id
from agent.controlplane.parts import Parts
from agent.controlplane.records import AliveRecord, AttributeRecord, InstanceRecord, TaskRecord
from agent.controlplane.scheduler import placement
from agent.controlplane.schedules.loop import ScheduleLoop
from agent.controlplane.schedules.record import deletion_key
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.controlplane.tasks import capacity
from agent.model.resources import HostResources
from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

HANDLERS = {**ecs.handlers(), **events.handlers(), **scheduler.handlers()}
T0 = 1_800_000_000.0
CLUSTER = "arn:aws:ecs:us-east-1:000000000000:cluster/default"


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        return self.now


async def call(parts: Parts, operation: str, **request: Any) -> dict[str, Any]:
    return await HANDLERS[operation](parts, request)


async def add_host(
    parts: Parts, memory_mib: int = 81_920, attributes: Mapping[str, str] | None = None
) -> str:
    instance_id = new_id()
    record = InstanceRecord(
        id=instance_id,
        arn=parts.names.instance("default", instance_id),
        cluster="default",
        client_token=instance_id,
        resources=HostResources(cpu_units=40_960, memory_mib=memory_mib),
        attributes={
            name: AttributeRecord(value=value)
            for name, value in {"ecs.os-type": "linux", **(attributes or {})}.items()
        },
    )
    lease = await parts.store.grant_lease(60)
    puts = [
        Put(records.instance_key("default", instance_id), records.encode(record)),
        Put(records.alive_key(instance_id), records.encode(AliveRecord(generation=1)), lease),
    ]
    await parts.store.txn([], puts)
    return record.arn


async def tasks(parts: Parts) -> list[TaskRecord]:
    return [task async for _, task in access.scan(parts.store, TaskRecord, records.TASKS)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def parts(tmp_path: Path, clock: Clock) -> AsyncIterator[Parts]:
    store = await SqliteStore.open(tmp_path / "control.db")
    made = Parts(store=store, clock=clock)
    await call(made, "CreateCluster")
    await call(made, "RegisterTaskDefinition", **definition())
    yield made
    await store.close()


def target(**more: Any) -> dict[str, Any]:
    return {
        "Arn": CLUSTER,
        "RoleArn": "arn:aws:iam::000000000000:role/r",
        "EcsParameters": {"TaskDefinitionArn": "web", "TaskCount": 2},
    } | more


async def create(parts: Parts, name: str = "s", **more: Any) -> None:
    request = {
        "Name": name,
        "ScheduleExpression": "rate(1 hour)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": target(),
    }
    await call(parts, "CreateSchedule", **(request | more))


async def test_a_schedule_and_a_rule_run_their_tasks(parts: Parts, clock: Clock) -> None:
    await add_host(parts)
    await create(parts, "night.ly", Target=target(Input='{"containerOverrides": []}'))
    await call(parts, "PutRule", Name="hourly", ScheduleExpression="rate(1 hour)")
    targets = [target(Id="1"), target(Id="2", EcsParameters={"TaskDefinitionArn": "web"})]
    await call(parts, "PutTargets", Rule="hourly", Targets=targets)
    loop = ScheduleLoop(parts)
    await loop.load()
    await loop.settle()
    assert (await tasks(parts), loop.next_at) == ([], T0 + 3600)
    clock.now += 3600
    await loop.settle()
    by = sorted(task.started_by for task in await tasks(parts))
    assert by == ["chronos-schedule/night_ly"] * 2 + ["events-rule/hourly"] * 3
    await loop.settle()
    assert len(await tasks(parts)) == 5
    assert loop.next_at == T0 + 7200


async def test_runs_go_to_the_hosts_of_their_capacity_provider(parts: Parts, clock: Clock) -> None:
    request = {
        "family": "job",
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "containerDefinitions": [{"name": "main", "image": "busybox"}],
    }
    revision = (await call(parts, "RegisterTaskDefinition", **request))["taskDefinition"]
    offered = {each["name"]: "" for each in revision["requiresAttributes"]}
    offered |= {capacity.ATTRIBUTE: "", capacity.TASK_LIMITS: ""}
    await add_host(parts, attributes=offered | {placement.CAPACITY_PROVIDER: "FARGATE"})
    spot = {placement.CAPACITY_PROVIDER: "FARGATE_SPOT"}
    host = await add_host(parts, attributes=offered | spot)
    await call(
        parts,
        "PutClusterCapacityProviders",
        cluster="default",
        capacityProviders=["FARGATE", "FARGATE_SPOT"],
        defaultCapacityProviderStrategy=[],
    )
    parameters = {
        "TaskDefinitionArn": "job",
        "TaskCount": 4,
        "CapacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}],
        "NetworkConfiguration": {"awsvpcConfiguration": {"Subnets": ["subnet-1"]}},
    }
    await create(parts, Target=target(EcsParameters=parameters))
    loop = ScheduleLoop(parts)
    await loop.load()
    clock.now += 3600
    await loop.settle()
    ran = [(task.instance_arn, task.capacity_provider) for task in await tasks(parts)]
    assert ran == [(host, "FARGATE_SPOT")] * 4


async def test_loops_at_the_same_time_and_after_restarts_run_each_time_once(
    parts: Parts, clock: Clock
) -> None:
    await add_host(parts)
    for number in range(5):
        await create(parts, f"s{number}")
    for hour in range(1, 4):
        clock.now = T0 + 3600 * hour
        loops = [ScheduleLoop(Parts(store=parts.store, clock=clock)) for _ in range(4)]
        for loop in loops:
            await loop.load()
        await asyncio.gather(*(loop.settle() for loop in loops))
        assert len(await tasks(parts)) == 5 * 2 * hour


async def test_what_finds_no_room_starts_when_there_is_some(parts: Parts, clock: Clock) -> None:
    await create(parts)
    loop = ScheduleLoop(parts)
    await loop.load()
    clock.now += 3600
    await loop.settle()
    assert (await tasks(parts), loop.next_at) == ([], clock.now + 5)
    # Room for one of the two, then for both.
    await add_host(parts, memory_mib=200)
    clock.now += 5
    await loop.settle()
    assert len(await tasks(parts)) == 1
    await add_host(parts)
    clock.now += 10
    await loop.settle()
    assert len(await tasks(parts)) == 2
    assert loop.next_at == T0 + 7200


async def test_one_that_deletes_itself_and_one_whose_definition_is_gone(
    parts: Parts, clock: Clock
) -> None:
    await add_host(parts)
    once = "at(2027-01-15T09:00:00)"
    await create(parts, "once", ScheduleExpression=once, ActionAfterCompletion="DELETE")
    gone = target(
        EcsParameters={"TaskDefinitionArn": "nothing:1"},
        RetryPolicy={"MaximumRetryAttempts": 0},
    )
    await create(parts, "broken", Target=gone)
    loop = ScheduleLoop(parts)
    await loop.load()
    clock.now = T0 + 3600
    await loop.settle()
    assert len(await tasks(parts)) == 2
    found = await call(parts, "ListSchedules")
    assert [one["Name"] for one in found["Schedules"]] == ["broken"]
    clock.now += 5
    await loop.settle()
    assert loop.next_at == T0 + 7200


async def test_what_a_token_has_deleted_is_known_for_a_day(parts: Parts, clock: Clock) -> None:
    await create(parts)
    await call(parts, "DeleteSchedule", Name="s", ClientToken="t")
    janitor = Janitor(parts)
    for hours, is_known in ((23, True), (2, False)):
        clock.now += hours * 3600
        await janitor.clean()
        assert (await parts.store.get(deletion_key("t")) is not None) is is_known


async def test_the_loop_wakes_for_a_change_and_for_the_time(parts: Parts) -> None:
    await add_host(parts)
    real = Parts(store=parts.store)
    work = asyncio.create_task(ScheduleLoop(real).run())
    try:
        await asyncio.sleep(0.05)
        start = real.clock() + 0.2
        await create(real, StartDate=start)
        async with asyncio.timeout(40):
            while len(await tasks(parts)) < 2:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        assert min(task.created_at for task in await tasks(parts)) >= start
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
