"""The agents' client against the real control endpoint: what neither side's double would show."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.agents import incumbents
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.errors import StaleGeneration
from agent.model.resources import HostResources
from agent.model.wire import HeldTask
from agent.state import Batch, StateStore
from tests.support.control_endpoint import Endpoint, a_report, control_endpoint, definition
from tests.support.control_host import Host, until
from tests.support.fleet import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import msgspec

    from agent.model.wire import Assignments
    from agent.upstream.protocol import RegisterInfo
    from tests.support.fake_control import FakeControl


@dataclass
class Address:
    """Where the control endpoint of a test is, whether it runs or not."""

    data: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Endpoint]:
        listen = f"127.0.0.1:{self.port}"
        async with control_endpoint(self.data, listen=listen, **settings) as endpoint:
            yield endpoint


class LargeHost(Host):
    """A host with room for whatever a test runs."""

    def describe(self) -> RegisterInfo:
        large = HostResources(cpu_units=10**6, memory_mib=10**6)
        return replace(super().describe(), resources=large)

    def wanted(self) -> dict[str, str]:
        """What the orders taken so far amount to, as an engine would see them."""
        wanted: dict[str, str] = {}
        for answer in self.taken:
            if answer.full:
                wanted.clear()
            wanted |= {order.task_arn: order.desired_status for order in answer.tasks}
        return wanted


@pytest.fixture
def address(tmp_path: Path) -> Address:
    return Address(tmp_path / "control", free_port())


@pytest.fixture
async def host(store: StateStore, address: Address) -> AsyncIterator[LargeHost]:
    made = LargeHost(store, cast("FakeControl", address))
    yield made
    await made.close()


async def run_tasks(endpoint: Endpoint, count: int) -> list[str]:
    answer = await endpoint.call("RunTask", taskDefinition="web", count=count)
    assert answer["failures"] == []
    return [task["taskArn"] for task in answer["tasks"]]


async def test_orders_and_reports_go_round(address: Address, host: LargeHost) -> None:
    async with address.running() as endpoint:
        await endpoint.call("RegisterTaskDefinition", **definition())
        async with host.running() as client:
            await until(lambda: client.status.connected)
            (arn,) = await run_tasks(endpoint, 1)
            await until(lambda: host.wanted() == {arn: "RUNNING"})
            await host.report(a_report(arn, "PENDING"), a_report(arn, "RUNNING"))
            await until(lambda: not client.status.unsent)
            assert (await endpoint.task(arn))["lastStatus"] == "RUNNING"
            await endpoint.call("StopTask", task=arn, reason="enough")
            await until(lambda: host.wanted() == {arn: "STOPPED"})
            assert host.taken[-1].tasks[0].stopped_reason == "enough"
            await host.report(a_report(arn, "STOPPED"))
            await until(lambda: not client.status.unsent)
            assert (await endpoint.task(arn))["stoppedReason"] == "enough"
            assert not client.status.error


async def test_a_task_stopped_before_its_agent_heard_of_it(
    address: Address, host: LargeHost
) -> None:
    async with address.running() as endpoint:
        await endpoint.call("RegisterTaskDefinition", **definition())
        async with host.running() as client:
            await until(lambda: client.status.connected)
        (arn,) = await run_tasks(endpoint, 1)
        await endpoint.call("StopTask", task=arn)
        host.taken.clear()
        async with host.running():
            await until(lambda: host.wanted() == {arn: "STOPPED"})
            assert host.taken[0].full


async def test_a_lease_that_is_no_even_number_of_seconds(address: Address, host: LargeHost) -> None:
    host.wait_s = 30.0
    async with address.running(lease_s=2.5) as endpoint, host.running() as client:
        await until(lambda: host.taken)
        await endpoint.call("RegisterTaskDefinition", **definition())
        (arn,) = await run_tasks(endpoint, 1)
        await until(lambda: arn in host.wanted(), limit_s=1.0)
        await asyncio.sleep(3.0)
        assert client.status.connected
        assert not client.status.error


async def test_control_restarts_with_its_store(address: Address, host: LargeHost) -> None:
    async with host.running() as client:
        async with address.running() as endpoint:
            await endpoint.call("RegisterTaskDefinition", **definition())
            await until(lambda: host.taken)
            (first,) = await run_tasks(endpoint, 1)
            await until(lambda: first in host.wanted())
        await until(lambda: not client.status.connected)
        await host.report(a_report(first, "RUNNING"))
        async with address.running() as endpoint:
            await until(lambda: not client.status.unsent)
            assert (await endpoint.task(first))["lastStatus"] == "RUNNING"
            (second,) = await run_tasks(endpoint, 1)
            await until(lambda: host.wanted() == {first: "RUNNING", second: "RUNNING"})
            assert client.status.generation == 1


async def test_control_comes_back_with_an_older_copy_of_its_store(
    address: Address, host: LargeHost, tmp_path: Path
) -> None:
    """Its revisions are given out again: the same number means another state then."""
    async with address.running() as endpoint:
        await endpoint.call("RegisterTaskDefinition", **definition())
        async with host.running():
            await until(lambda: host.taken)
        (kept,) = await run_tasks(endpoint, 1)
    shutil.copytree(address.data, tmp_path / "backup")
    async with host.running() as client:
        async with address.running() as endpoint:
            lost = await run_tasks(endpoint, 3)
            await until(lambda: set(host.wanted()) == {kept, *lost})
        await until(lambda: not client.status.connected)
        shutil.rmtree(address.data)
        shutil.copytree(tmp_path / "backup", address.data)
        # An agent that was away for long: the new history has overtaken the number it holds.
        store = await SqliteStore.open(address.data / "control.db")
        for number in range(50):
            await store.txn([], [Put("/elsewhere", str(number).encode())])
        await store.close()
        async with address.running() as endpoint:
            await until(lambda: set(host.wanted()) == {kept})
            (fresh,) = await run_tasks(endpoint, 1)
            await until(lambda: set(host.wanted()) == {kept, fresh})


async def test_control_comes_back_with_an_empty_store(address: Address, host: LargeHost) -> None:
    async with host.running() as client:
        async with address.running():
            await until(lambda: host.taken)
            before = client.status.instance_arn
        await until(lambda: not client.status.connected)
        shutil.rmtree(address.data)
        async with address.running() as endpoint:
            await until(lambda: client.status.instance_arn != before)
            await endpoint.call("RegisterTaskDefinition", **definition())
            (arn,) = await run_tasks(endpoint, 1)
            await until(lambda: host.wanted() == {arn: "RUNNING"})
        assert len(set(host.control_ids)) == 2


async def test_what_control_cannot_read_is_not_taken_for_unwanted(
    address: Address, host: LargeHost
) -> None:
    async with address.running() as endpoint:
        await endpoint.call("RegisterTaskDefinition", **definition())
        async with host.running():
            await until(lambda: host.taken)
        assert host.taken[0].full
        broken, whole = await run_tasks(endpoint, 2)
    store = await SqliteStore.open(address.data / "control.db")
    key = records.task_key("default", broken.rsplit("/", 1)[-1])
    await store.txn([], [Put(key, b'{"id": 7')])
    await store.close()
    host.taken.clear()
    async with address.running(), host.running():
        await until(lambda: whole in host.wanted())
        assert not any(answer.full for answer in host.taken)


async def test_an_operator_deregisters_the_host(address: Address, host: LargeHost) -> None:
    async with address.running() as endpoint:
        client = await host.client()
        ending = asyncio.create_task(client.run())
        await until(lambda: host.taken)
        await endpoint.call(
            "DeregisterContainerInstance", containerInstance=client.status.instance_arn
        )
        with pytest.raises(StaleGeneration, match=r"deregistered.*remove its state directory"):
            async with asyncio.timeout(5):
                await ending


async def test_a_twin_is_refused_while_the_first_is_there(
    address: Address, host: LargeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incumbents, "WAIT_S", 20.0)  # a busy machine must not decide it
    async with address.running():
        async with host.running() as first:
            await until(lambda: host.taken and first.status.connected)
            shutil.copy(tmp_path / "agent.db", tmp_path / "twin.db")
            shutil.copy(tmp_path / "agent.db-wal", tmp_path / "twin.db-wal")
            store = await StateStore.open(tmp_path / "twin.db")
            twin = LargeHost(store, host.control)
            with pytest.raises(StaleGeneration, match="another host is connected"):
                async with asyncio.timeout(30):
                    await (await twin.client()).run()
            await twin.close()
            await until(lambda: first.status.connected)
            assert first.status.generation == 1
        # Once the first has gone, nothing tells the twin from a restart of it.
        async with twin.running() as client:
            await until(lambda: client.status.connected)
            assert client.status.generation == 2
        await store.close()


async def test_five_hundred_tasks_at_once(address: Address, host: LargeHost) -> None:
    async with address.running() as endpoint:
        await endpoint.call("RegisterTaskDefinition", **definition())
        async with host.running() as client:
            await until(lambda: client.status.connected)
        arns: list[str] = []
        for _ in range(50):
            arns += await run_tasks(endpoint, 10)
        host.taken.clear()
        host.answer_bytes = 64 * 1024 * 1024
        async with host.running() as client:
            began = time.monotonic()
            await until(lambda: len(host.wanted()) == 500)
            await host.report(*(a_report(arn, "RUNNING") for arn in arns))
            await until(lambda: not client.status.unsent)
            assert time.monotonic() - began < 10.0
        counts = (await endpoint.call("DescribeClusters"))["clusters"][0]
        assert (counts["runningTasksCount"], counts["pendingTasksCount"]) == (500, 0)


class HoldingHost(LargeHost):
    """A host that keeps what it was ordered, and says so when it is asked."""

    def __init__(self, store: StateStore, control: FakeControl) -> None:
        super().__init__(store, control)
        self.payloads: dict[str, msgspec.Raw] = {}
        self.stopped: set[str] = set()

    async def _take(self, assignments: Assignments, control_id: str, instance: str = "") -> None:
        await super()._take(assignments, control_id, instance)
        for order in assignments.tasks:
            self.payloads.setdefault(order.task_arn, order.payload)
        listed = {order.task_arn: order.desired_status for order in assignments.tasks}
        self.stopped |= {arn for arn, desired in listed.items() if desired == "STOPPED"}
        if assignments.full:
            self.stopped |= self.payloads.keys() - listed.keys()

    def held(self, control_id: str) -> list[HeldTask]:
        super().held(control_id)
        return [
            HeldTask(payload=raw, change=a_report(arn, "RUNNING"))
            for arn, raw in self.payloads.items()
        ]


@pytest.mark.parametrize("how", ["agent stays", "agent restarts", "agent lost the revision"])
async def test_an_older_copy_of_the_store_stops_nobody(
    address: Address, store: StateStore, tmp_path: Path, how: str
) -> None:
    host = HoldingHost(store, cast("FakeControl", address))
    async with address.running() as endpoint, host.running() as client:
        await endpoint.call("RegisterTaskDefinition", **definition())
        await until(lambda: host.taken)
        (known,) = await run_tasks(endpoint, 1)
        await until(lambda: known in host.payloads)
    shutil.copytree(address.data, tmp_path / "backup")
    stack = contextlib.AsyncExitStack()
    async with stack:
        client = await stack.enter_async_context(host.running())
        async with address.running() as endpoint:
            lost = await run_tasks(endpoint, 3)
            await until(lambda: set(host.payloads) == {known, *lost})
            await host.report(*(a_report(arn, "RUNNING") for arn in (known, *lost)))
            await until(lambda: not client.status.unsent)
        instance = client.status.instance_arn
        await until(lambda: not client.status.connected)
        shutil.rmtree(address.data)
        shutil.copytree(tmp_path / "backup", address.data)
        if how != "agent stays":
            await stack.aclose()
        if how == "agent lost the revision":
            batch = Batch()
            batch.delete_meta("seenRevision")
            await store.commit(batch)
        if how != "agent stays":
            client = await stack.enter_async_context(host.running())
        host.taken.clear()
        async with address.running() as endpoint:
            await until(lambda: any(answer.full for answer in host.taken))
            assert "control went back" in client.status.notice
            assert client.status.instance_arn == instance
            assert set(host.wanted()) == {known, *lost}
            for arn in (known, *lost):
                assert (await endpoint.task(arn))["lastStatus"] == "RUNNING"
            # Only what control orders from here on stops a task.
            assert not host.stopped
            await endpoint.call("StopTask", task=lost[0])
            await until(lambda: host.stopped == {lost[0]})
            (fresh,) = await run_tasks(endpoint, 1)
            await until(lambda: fresh in host.payloads)
            assert host.stopped == {lost[0]}


async def test_ended_tasks_are_reported_again_to_an_older_copy(
    address: Address, store: StateStore, tmp_path: Path
) -> None:
    host = HoldingHost(store, cast("FakeControl", address))
    async with address.running() as endpoint, host.running():
        await endpoint.call("RegisterTaskDefinition", **definition())
        await until(lambda: host.taken)
        (arn,) = await run_tasks(endpoint, 1)
        await until(lambda: arn in host.payloads)
    shutil.copytree(address.data, tmp_path / "backup")
    async with address.running() as endpoint, host.running() as client:
        await host.report(a_report(arn, "STOPPED"))
        await until(lambda: not client.status.unsent and host.taken[-1].full)
        assert (await endpoint.task(arn))["lastStatus"] == "STOPPED"
    host.payloads.clear()
    host.has_ended = [a_report(arn, "STOPPED")]
    (address.data / "control.db.revision").unlink()
    for suffix in ("", "-wal"):
        (address.data / f"control.db{suffix}").unlink(missing_ok=True)
        if (tmp_path / "backup" / f"control.db{suffix}").exists():
            shutil.copy(tmp_path / "backup" / f"control.db{suffix}", address.data)
    host.taken.clear()
    async with address.running() as endpoint, host.running() as client:
        await until(lambda: host.taken and not client.status.unsent)
        assert client.status.notice
        assert (await endpoint.task(arn))["lastStatus"] == "STOPPED"
