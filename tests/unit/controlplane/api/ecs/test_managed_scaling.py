"""Managed scaling through the API: tasks that wait, and a real program that is told of hosts to add and remove."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import access, records
from agent.controlplane.host_scaling import caller, loop, placing, scaling
from agent.controlplane.host_scaling.decision import LOW_S
from agent.controlplane.host_scaling.hooks import HostHooks, Pair
from agent.controlplane.host_scaling.loop import HostScalingLoop
from agent.controlplane.host_scaling.record import ScalingRecord, key_of
from agent.controlplane.records import InstanceRecord
from agent.controlplane.tasks import waiting
from agent.controlplane.tasks.providers import CapacityProviderRecord
from agent.controlplane.tasks.providers import key_of as key_of_provider
from agent.model.resources import HostResources
from tests.support.control_endpoint import definition
from tests.unit.controlplane.api.ecs.test_capacity_providers import (
    GROUP,
    create,
    give,
    item,
    of_provider,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.unit.controlplane.api.ecs.service_shop import Shop

WAIT_S = 60.0
RACK = [item("rack", weight=1)]
PAIR = Pair("default", "rack")
PROGRAM = """#!/bin/sh
# Keeps the document for the test, which starts and ends the hosts.
if [ -e "$1/broken" ]; then echo 'no power in the rack' >&2; exit 7; fi
cat > "$1/new" && mv "$1/new" "$1/told" && echo x >> "$1/runs"
"""


class Rack:
    """Hosts that a program starts and ends, here in the process of the test."""

    def __init__(self, shop: Shop, folder: Path, hooks: HostHooks) -> None:
        self.shop = shop
        self.folder = folder
        self.hooks = hooks
        self.call = shop.endpoint.call

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HostScalingLoop]:
        """Run the loop, as control does."""
        made = HostScalingLoop(self.shop.endpoint.parts, self.hooks, self.folder)
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until something holds; it may have to be awaited."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found = holds()
                if await found if asyncio.iscoroutine(found) else found:
                    return
                await asyncio.sleep(0.02)

    def told(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / "told").read_text()))
        except FileNotFoundError:
            return {}

    async def told_of(self, desired: int, remove: int = 0) -> dict[str, Any]:
        """Wait until the program is told of so many hosts, and return what it was told."""

        def is_told() -> bool:
            document = self.told()
            return bool(document) and (
                document["desiredHosts"],
                len(document["remove"]),
            ) == (desired, remove)

        await self.until(is_told)
        return self.told()

    def runs(self) -> int:
        try:
            return len((self.folder / "runs").read_text().split())
        except FileNotFoundError:
            return 0

    async def add_host(self, **fields: Any) -> InstanceRecord:
        fields.setdefault("registered_at", self.shop.endpoint.now[0])
        return await self.shop.add_host(attributes=of_provider("rack"), **fields)

    async def end_host(self, host: InstanceRecord) -> None:
        store = self.shop.endpoint.parts.store
        kv = await store.get(records.alive_key(host.id))
        assert kv is not None
        await store.revoke_lease(kv.lease)

    async def wait_for_host(self, host: InstanceRecord, status: str) -> None:
        async def is_so() -> bool:
            return (await self.instance(host)).status == status

        await self.until(is_so)

    async def instance(self, host: InstanceRecord) -> InstanceRecord:
        key = records.instance_key(host.cluster, host.id)
        found = await access.find(self.shop.endpoint.parts.store, InstanceRecord, key)
        assert found is not None
        return found.record

    async def run(self, count: int = 1, **more: Any) -> list[dict[str, Any]]:
        request = {
            "taskDefinition": "web",
            "capacityProviderStrategy": RACK,
            "count": count,
            **more,
        }
        answer = await self.call("run_task", **request)
        assert answer["failures"] == []
        return list(answer["tasks"])

    async def status(self, tasks: list[dict[str, Any]]) -> set[str]:
        arns = [task["taskArn"] for task in tasks]
        found = (await self.call("describe_tasks", tasks=arns))["tasks"]
        return {task["lastStatus"] for task in found}

    async def wait_for(self, tasks: list[dict[str, Any]], status: str) -> None:
        async def is_so() -> bool:
            return await self.status(tasks) == {status}

        await self.until(is_so)

    async def provider(self) -> dict[str, Any]:
        answer = await self.call("describe_capacity_providers", capacityProviders=["rack"])
        return dict(answer["capacityProviders"][0])

    async def scale(self, **scaling_: Any) -> None:
        group = {"managedScaling": {"status": "ENABLED", **scaling_}}
        await self.call("update_capacity_provider", name="rack", autoScalingGroupProvider=group)


def scaled(name: str = "rack", **more: Any) -> dict[str, Any]:
    return {
        "autoScalingGroupArn": GROUP + name,
        "managedScaling": {"status": "ENABLED", "instanceWarmupPeriod": 60},
        **more,
    }


def a_definition(family: str, memory: int = 128, **more: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "img", "cpu": 256, "memory": memory}
    return definition(family=family, containerDefinitions=[container], **more)


@pytest.fixture
async def rack(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rack:
    monkeypatch.setattr(loop, "SETTLE_S", 0.01)
    monkeypatch.setattr(caller, "FIRST_WAIT_S", 0.05)
    folder = tmp_path / "rack"
    folder.mkdir()
    program = folder / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    file = folder / "hooks.json"
    hook = {"command": [str(program), str(folder)], "maximumSize": 4}
    file.write_text(json.dumps({"rack": hook}))
    hooks = await HostHooks.open(file)
    object.__setattr__(shop.endpoint.parts, "host_hooks", hooks)
    await create(shop.endpoint, autoScalingGroupProvider=scaled())
    await give(shop.endpoint, "rack")
    return Rack(shop, folder, hooks)


async def test_tasks_wait_until_a_host_comes_and_the_program_is_told(rack: Rack) -> None:
    tasks = await rack.run(3)
    assert {(task["lastStatus"], task["capacityProviderName"]) for task in tasks} == {
        ("PROVISIONING", "rack")
    }
    assert all("containerInstanceArn" not in task for task in tasks)
    async with rack.running():
        document = await rack.told_of(1)  # nobody knows yet what a host is like
        assert document["capacityProvider"] == "rack"
        assert document["autoScalingGroupArn"] == GROUP + "rack"
        host = await rack.add_host()
        await rack.wait_for(tasks, "PENDING")
        found = await rack.call("describe_tasks", tasks=[tasks[0]["taskArn"]])
        assert found["tasks"][0]["containerInstanceArn"] == host.arn
        await rack.until(lambda: rack.hooks.figures[PAIR].reservation == 100.0)
        await rack.shop.report(tasks[0]["taskArn"], "RUNNING")
        # A host is known now, and two of these fit on one: one here, so the other five need three more.
        await rack.call("register_task_definition", **a_definition("big", memory=4000))
        big = await rack.run(6, taskDefinition="big")
        await rack.told_of(4)
        await rack.add_host()
        await rack.add_host()
        await rack.add_host()
        await rack.wait_for(big, "PENDING")


async def test_a_service_waits_for_hosts_and_is_steady_then(rack: Rack) -> None:
    await rack.shop.create(capacityProviderStrategy=RACK)
    await rack.shop.settle()
    shown = await rack.shop.describe()
    assert (shown["pendingCount"], shown["runningCount"]) == (2, 0)
    await rack.shop.settle(120)
    assert len(await rack.shop.tasks()) == 2, "no others are started meanwhile"
    async with rack.running():
        await rack.told_of(1)
        await rack.add_host()
        await rack.wait_for(await rack.shop.tasks(), "PENDING")
        await rack.shop.settle(41)
        shown = await rack.shop.describe()
        assert (shown["pendingCount"], shown["runningCount"]) == (0, 2)
        await rack.call("update_service", service="shop", desiredCount=0)
        await rack.shop.settle(41)
    messages = " ".join(await rack.shop.messages())
    assert "was unable to place" not in messages


async def test_a_service_that_is_scaled_in_stops_those_that_wait_first(rack: Rack) -> None:
    await rack.shop.create(capacityProviderStrategy=RACK)
    await rack.shop.settle()
    await rack.call("update_service", service="shop", desiredCount=1)
    await rack.shop.settle(1)
    (left,) = await rack.shop.tasks()
    assert left["lastStatus"] == "PROVISIONING"


async def test_one_that_waits_can_be_stopped(rack: Rack) -> None:
    (task,) = await rack.run()
    stopped = (await rack.call("stop_task", task=task["taskArn"]))["task"]
    assert stopped["lastStatus"] == "STOPPED"
    host = await rack.add_host()
    async with rack.running() as made:
        await made.load()
        await made.settle()
    assert await rack.status([task]) == {"STOPPED"}
    assert (await rack.call("list_tasks", containerInstance=host.id))["taskArns"] == []


async def test_one_that_waits_for_too_long_fails(rack: Rack) -> None:
    (task,) = await rack.run()
    rack.shop.endpoint.now[0] += placing.WAIT_LIMIT_S
    async with rack.running():
        await rack.wait_for([task], "STOPPED")
    (shown,) = (await rack.call("describe_tasks", tasks=[task["taskArn"]]))["tasks"]
    assert shown["stopCode"] == "TaskFailedToStart"
    assert "rack had room for the task within 30 minutes" in shown["stoppedReason"]


async def test_with_its_own_address_it_gets_the_subnet_of_its_host(rack: Rack) -> None:
    await rack.call("register_task_definition", **a_definition("own", networkMode="awsvpc"))
    network = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
    tasks = await rack.run(taskDefinition="own", networkConfiguration=network)
    attributes = {**of_provider("rack"), "ecs.capability.task-eni": records.AttributeRecord()}
    async with rack.running():
        await rack.told_of(1)
        host = await rack.shop.add_host(attributes=attributes)
        async with asyncio.timeout(WAIT_S):
            while True:
                arns = [task["taskArn"] for task in tasks]
                (shown,) = (await rack.call("describe_tasks", tasks=arns))["tasks"]
                if shown.get("containerInstanceArn") == host.arn:
                    break
                await asyncio.sleep(0.05)
    assert shown["lastStatus"] == "PROVISIONING"
    details = {one["name"]: one["value"] for one in shown["attachments"][0]["details"]}
    assert details["subnetId"] == "subnet-1"


async def test_more_than_may_wait_are_failures(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "OF_CLUSTER_LIMIT", 2)
    request = {"taskDefinition": "web", "capacityProviderStrategy": RACK, "count": 3}
    answer = await rack.call("run_task", **request)
    assert len(answer["tasks"]) == 2
    assert answer["failures"][0]["reason"] == waiting.LIMIT_REACHED
    assert (await rack.call("run_task", **request))["tasks"] == []
    await rack.shop.create(capacityProviderStrategy=RACK)
    await rack.shop.settle()
    assert waiting.LIMIT_REACHED in (await rack.shop.messages())[0]


async def test_what_fits_on_no_host_is_told_and_adds_none(rack: Rack) -> None:
    await rack.add_host()
    await rack.call("register_task_definition", **a_definition("huge", memory=90_000))
    await rack.run(taskDefinition="huge")
    async with rack.running():
        await rack.told_of(1)
        await rack.until(lambda: "default: 1." in rack.hooks.trouble("rack"))
    assert "no host of it can take wait" in (await rack.provider())["updateStatusReason"]


async def test_empty_hosts_are_drained_and_ended(rack: Rack) -> None:
    hosts = [await rack.add_host() for _ in range(3)]
    (task,) = await rack.run()
    busy = task["containerInstanceArn"]
    async with rack.running() as made:
        await rack.told_of(3)
        rack.shop.endpoint.now[0] += LOW_S + 1
        made._wake("default")
        document = await rack.told_of(2, remove=1)
        assert document["remove"][0]["status"] == "DRAINING"
        assert document["remove"][0]["containerInstanceArn"] != busy
        assert document["remove"][0]["containerInstanceArn"] not in {
            one["containerInstanceArn"] for one in document["hosts"]
        }
        by_arn = {host.arn: host for host in hosts}
        gone = by_arn[document["remove"][0]["containerInstanceArn"]]
        await rack.end_host(gone)
        await rack.wait_for_host(gone, "INACTIVE")
        await rack.told_of(2)
        rack.shop.endpoint.now[0] += 61
        made._wake("default")
        await rack.told_of(1, remove=1)
        rack.shop.endpoint.now[0] += 2 * LOW_S
        made._wake("default")
    assert (await rack.instance(by_arn[busy])).status == "ACTIVE"


async def test_daemons_leave_a_host_before_it_is_ended(rack: Rack) -> None:
    await rack.add_host()
    await rack.shop.create(schedulingStrategy="DAEMON", launchType="EC2")
    await rack.shop.settle()
    rack.shop.endpoint.now[0] += 61
    async with rack.running() as made:
        await rack.told_of(1)
        rack.shop.endpoint.now[0] += LOW_S + 1
        made._wake("default")
        await rack.told_of(0)
        assert rack.told()["hosts"][0]["status"] == "DRAINING"
        assert rack.told()["hosts"][0]["tasks"] == 1
        await rack.shop.settle(1)
        await rack.told_of(0, remove=1)


async def test_termination_protection_is_told_of_hosts_with_tasks(rack: Rack) -> None:
    await rack.call(
        "update_capacity_provider",
        name="rack",
        autoScalingGroupProvider={"managedTerminationProtection": "ENABLED"},
    )
    for _ in range(2):
        await rack.add_host()
    await rack.run()
    async with rack.running():
        hosts = (await rack.told_of(2))["hosts"]
    assert sorted(one["protectedFromScaleIn"] for one in hosts) == [False, True]


async def test_a_program_that_fails_is_told_and_tried_again(rack: Rack) -> None:
    (rack.folder / "broken").touch()
    await rack.run()
    async with rack.running():
        await rack.until(lambda: rack.hooks.runs["rack", "failed"] >= 2)
        shown = await rack.provider()
        assert shown["updateStatus"] == "CREATE_COMPLETE"
        assert shown["updateStatusReason"].endswith("ended with 7: no power in the rack.")
        assert rack.hooks.problem().startswith("hosts of rack: Hosts cannot be added")
        (rack.folder / "broken").unlink()
        await rack.told_of(1)
        await rack.until(lambda: not rack.hooks.problem())
    assert "updateStatusReason" not in await rack.provider()


async def test_it_is_repeated_until_the_hosts_are_there(
    rack: Rack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "FIRST_REPEAT_S", 0.05)
    await rack.run()
    async with rack.running():
        await rack.until(lambda: rack.runs() >= 3)
        await rack.add_host()
        await rack.until(lambda: rack.hooks.figures[PAIR].there == 1)
        before = -1
        while before != rack.runs():
            before = rack.runs()
            await asyncio.sleep(0.5)


async def test_a_restart_goes_on_with_what_is_stored(rack: Rack) -> None:
    (rack.folder / "broken").touch()
    tasks = await rack.run(2)
    async with rack.running():
        await rack.until(lambda: rack.hooks.runs["rack", "failed"])
    (rack.folder / "broken").unlink()
    async with rack.running():
        await rack.told_of(1)
    host = await rack.add_host()
    async with rack.running():
        await rack.wait_for(tasks, "PENDING")
    for task in tasks:
        await rack.shop.report(task["taskArn"], "STOPPED")
    rack.shop.endpoint.now[0] += 61
    async with rack.running():
        await rack.until(lambda: rack.hooks.figures[PAIR].needed == 0)
    rack.shop.endpoint.now[0] += LOW_S + 1
    (rack.folder / "broken").touch()
    async with rack.running():
        await rack.wait_for_host(host, "DRAINING")
    (rack.folder / "broken").unlink()
    # A new process knows from the store that the host is on its way out.
    async with rack.running():
        await rack.told_of(0, remove=1)
        await rack.end_host(host)
        await rack.told_of(0)
    assert (await rack.instance(host)).status == "INACTIVE"


async def test_nothing_is_placed_between_a_decision_and_its_removal(rack: Rack) -> None:
    host = await rack.add_host()
    parts = rack.shop.endpoint.parts
    hosts = await parts.fleet.read("default")
    seen = await scaling.see(parts, PAIR, hosts, [], {})
    provider = await access.find(parts.store, CapacityProviderRecord, key_of_provider("rack"))
    hook = rack.hooks.of("rack")
    assert provider is not None
    assert hook is not None
    first = scaling.decide(seen, provider.record, hook, parts.clock() + 61)
    assert await scaling.commit(parts.store, seen, first)
    later = await scaling.see(parts, PAIR, hosts, [], {})
    removal = scaling.decide(later, provider.record, hook, parts.clock() + 61 + LOW_S)
    assert removal.drain == (host.id,)
    await rack.run()
    assert not await scaling.commit(parts.store, later, removal)
    assert (await rack.instance(host)).status == "ACTIVE"


async def test_without_a_program_it_is_told_and_goes_on_when_there_is_one(rack: Rack) -> None:
    kept = (rack.folder / "hooks.json").read_text()
    (rack.folder / "hooks.json").write_text("{}")
    await rack.hooks.reload()
    code, text = await rack.shop.endpoint.refused(
        "create_capacity_provider", name="other", autoScalingGroupProvider=scaled("other")
    )
    assert (code, "--host-hooks" in text) == ("UnsupportedFeatureException", True)
    await rack.run()
    async with rack.running():
        await rack.until(lambda: "names none" in rack.hooks.trouble("rack"))
        (rack.folder / "hooks.json").write_text(kept)
        await rack.hooks.reload()
        await rack.told_of(1)
        await rack.until(lambda: not rack.hooks.problem())


async def test_turned_off_it_is_forgotten_and_tasks_fail_for_want_of_room(rack: Rack) -> None:
    store = rack.shop.endpoint.parts.store
    (task,) = await rack.run()
    async with rack.running():
        await rack.told_of(1)
        await rack.scale(status="DISABLED")

        async def is_forgotten() -> bool:
            return await access.find(store, ScalingRecord, key_of(PAIR)) is None

        await rack.until(is_forgotten)
        # Those that wait already get the next host.
        await rack.add_host(resources=HostResources(cpu_units=1024, memory_mib=600))
        await rack.wait_for([task], "PENDING")
        assert PAIR not in rack.hooks.figures
    request = {"taskDefinition": "web", "capacityProviderStrategy": RACK, "count": 10}
    answer = await rack.call("run_task", **request)
    assert answer["failures"]
