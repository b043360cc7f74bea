"""What a new process finds of the one before it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.errors import EngineRefused, EngineUnavailable
from agent.model.payload import Association, PortMapping, RestartPolicy, Volume
from agent.model.task import NetworkBinding
from tests.support.memory_engine import Fault
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    from tests.support.task_host import TaskHost

OTHER = ARN[:-4] + "beef"
QUESTIONS = {"list", "inspect", "ping"}
"""What may be asked of the engine while nothing is to change."""


async def test_a_restart_touches_nothing_that_runs(host: TaskHost) -> None:
    await host.order(container("a"), container("b", ("a", "START")), network_mode="awsvpc")
    await host.until_known("RUNNING")
    await host.deliver()
    pids = {box.pid for box in host.runtime.boxes.values()}
    await host.crash()
    host.runtime.calls.clear()
    await host.start()
    await host.until(lambda: host.runtime.count("inspect") == 2)
    await asyncio.sleep(0.1)
    assert {o for o, _ in host.runtime.calls} <= QUESTIONS
    assert {box.pid for box in host.runtime.boxes.values()} == pids
    assert host.record().known.wire() == "RUNNING"
    assert await host.unsent() == []
    assert host.networks.released == []
    await host.stop()
    await host.until_known("STOPPED")


async def test_a_restart_keeps_gpus_where_they_are(host: TaskHost) -> None:
    gpu = Association(name="GPU-0", type="gpu", containers=["a"])
    await host.order(container("a"), associations=[gpu])
    await host.until_known("RUNNING")
    body = host.runtime.box("a").body
    assert body["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["GPU-0"]
    await host.crash()
    await host.start()
    await host.order(container("a"), arn=OTHER, associations=[gpu])
    waits = host.engine.tasks.views()[-1].waits
    assert [wait.what for wait in waits] == [f"GPU GPU-0; task {ARN.rsplit('/', 1)[1]} holds it"]
    assert host.runtime.box("a").body == body
    await host.stop()
    await host.until_known("RUNNING", OTHER)


async def test_a_task_that_died_meanwhile_is_reported_with_its_exit_code(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.crash()
    host.runtime.exit("a", 42)
    await host.start()
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].containers[0].exit_code == 42


@pytest.mark.parametrize("operation", ["create", "start"])
async def test_a_crash_in_the_middle_of_a_launch_makes_no_second_copy(
    host: TaskHost, operation: str
) -> None:
    host.runtime.fault(operation, Fault(delay_s=60.0))
    ports = [PortMapping(container_port=80)]
    await host.order(container("a", port_mappings=ports), network_mode="bridge")
    await host.until(lambda: host.runtime.count(operation))
    await host.crash()
    await host.start()
    await host.until_known("RUNNING")
    assert len(host.runtime.boxes) == 1
    (last,) = (await host.deliver())[-1].containers
    assert last.runtime_id == host.runtime.box("a").id
    assert last.network_bindings == [NetworkBinding(container_port=80, host_port=40_000)]


async def test_a_crash_between_a_restart_and_its_start_loses_neither(host: TaskHost) -> None:
    policy = RestartPolicy(enabled=True, restart_attempt_period=1)
    await host.order(container("a", restart_policy=policy))
    await host.until_known("RUNNING")
    await asyncio.sleep(1.01)
    host.runtime.fault("start", Fault(EngineUnavailable("reset"), times=1000))
    host.runtime.exit("a", 1)
    await host.until(lambda: host.container("a").restart_count)
    await host.engine._runners[ARN].saved()
    await host.crash()
    host.runtime.clear_faults()
    await host.start()
    await host.until(lambda: host.runtime.running() == {"a"})
    assert host.record().known.wire() == "RUNNING"
    assert host.container("a").restart_count == 1


async def test_tasks_of_one_id_in_two_clusters_are_two_tasks(host: TaskHost) -> None:
    twin = ARN.replace("task/default", "task/other")
    for arn in (ARN, twin):
        await host.order(container("a"), arn=arn)
        await host.until_known("RUNNING", arn)
    await host.crash()
    await host.start()
    assert sorted(host.engine.tasks.known_tasks()) == sorted([ARN, twin])
    await host.stop(twin)
    await host.until_known("STOPPED", twin)
    assert len(host.runtime.running()) == 1


async def test_a_stop_right_after_a_crash_in_a_launch_leaves_nothing(host: TaskHost) -> None:
    """Neither the admission nor the container nor the network had been saved."""
    host.runtime.fault("start", Fault(delay_s=60.0))
    await host.order(container("a"), network_mode="awsvpc")
    await host.until(lambda: host.runtime.running() == {"a"})
    await host.crash()
    host.runtime.hung = True
    await host.start()
    stopping = asyncio.create_task(host.stop())
    await asyncio.sleep(0.1)
    host.runtime.hung = False
    await stopping
    await host.until_known("STOPPED")
    assert host.runtime.running() == set()
    assert host.networks.held == set()


async def test_a_restored_task_holds_its_resources(host: TaskHost) -> None:
    await host.order(container("a", cpu=4000))
    await host.until_known("RUNNING")
    await host.crash()
    await host.start()
    assert host.ledger.used()[0].used == 4000


async def test_ports_of_a_stopped_task_are_not_given_back_twice(host: TaskHost) -> None:
    ports = [PortMapping(container_port=80)]
    for arn in (ARN, OTHER):
        await host.order(container("a", port_mappings=ports), arn=arn, network_mode="bridge")
        await host.until_known("RUNNING", arn)
        if arn == ARN:
            await host.stop()
            await host.until_known("STOPPED")
    assert host.record().host_ports == host.record(OTHER).host_ports
    await host.crash()
    await host.start()
    await host.until(lambda: host.runtime.count("inspect"))
    await asyncio.sleep(0.05)
    assert host.ports.held == {40_000}


async def test_a_volume_driver_that_is_away_does_not_stop_what_runs(host: TaskHost) -> None:
    await host.order(container("a"), volumes=[Volume(name="v")])
    await host.until_known("RUNNING")
    await host.crash()
    host.runtime.fault("create volume", Fault(EngineRefused("no plugin"), times=99))
    await host.start()
    await host.until(lambda: host.runtime.count("inspect"))
    await asyncio.sleep(0.05)
    assert host.record().known.wire() == "RUNNING"
    assert host.runtime.running() == {"a"}
