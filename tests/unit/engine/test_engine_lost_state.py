"""Records that are gone, older than what happened, or wrong: the engine is right."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from agent.engine.restored import RestoredTasks
from agent.errors import EngineUnavailable
from agent.model import task
from agent.model.payload import PortMapping
from agent.model.status import ContainerStatus, TaskStatus
from agent.network.sandboxes.recovery import Holder
from agent.state import Batch
from tests.support.memory_engine import Fault
from tests.support.task_host import OWNER, TaskHost, assignment
from tests.support.tasks import ARN, container

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.model.task import AgentTask

OTHER = ARN[:-4] + "beef"
PORTS = [PortMapping(container_port=80), PortMapping(container_port=80, protocol="udp")]


async def forget_record(host: TaskHost, arn: str = ARN) -> None:
    """Crash, and lose the row of a task."""
    batch = Batch()
    batch.delete("task", arn)
    await host.store.commit(batch)
    await host.crash()


async def change_record(host: TaskHost, change: Callable[[AgentTask], None]) -> None:
    """Crash, and find another row than the one that was written."""
    record = task.decode(task.encode(host.record()))
    change(record)
    batch = Batch()
    batch.put("task", ARN, task.encode(record))
    await host.store.commit(batch)
    await host.crash()


async def test_a_task_whose_record_is_gone_is_adopted_without_a_pull(host: TaskHost) -> None:
    a, b = container("a", port_mappings=PORTS), container("b", ("a", "START"))
    await host.order(a, b, network_mode="bridge")
    await host.until_known("RUNNING")
    await host.deliver()
    pids = {box.pid for box in host.runtime.boxes.values()}
    bindings = host.container("a").bindings
    await forget_record(host)
    host.runtime.images.clear()
    host.runtime.calls.clear()
    await host.start()
    host.ports.hold("tcp", [40_007])  # the next ones to pick are others than before
    await host.send(assignment(a, b, network_mode="bridge"), full=True)
    await host.until_known("RUNNING")
    assert {o for o, _ in host.runtime.calls} <= {"list", "inspect", "ping"}
    assert {box.pid for box in host.runtime.boxes.values()} == pids
    reports = await host.deliver()
    assert {change.status for change in reports} == {"RUNNING"}, "no status goes back"
    assert reports[-1].containers[0].network_bindings == bindings
    assert host.ports.held == {40_000, 40_001, 40_007}


async def test_ports_that_the_record_has_wrong_are_the_engine_s(host: TaskHost) -> None:
    await host.order(container("a", port_mappings=PORTS), network_mode="bridge")
    await host.until_known("RUNNING")
    bindings = host.container("a").bindings

    def wrong(record: AgentTask) -> None:
        record.host_ports = {"a/80/tcp": [41_000]}
        record.containers["a"].bindings = []

    await change_record(host, wrong)
    await host.start()
    await host.until(lambda: host.container("a").bindings == bindings)
    assert host.ports.held == {40_000, 40_001}


async def test_an_older_record_tells_no_earlier_status(host: TaskHost) -> None:
    """It says that nothing has begun; control was told RUNNING, and meanwhile one has ended."""
    a, b = container("a"), container("b", essential=False)
    await host.order(a, b)
    await host.until_known("RUNNING")
    await host.deliver()

    def older(record: AgentTask) -> None:
        record.known = TaskStatus.NONE
        for each in record.containers.values():
            each.known, each.runtime_id, each.started_at = ContainerStatus.NONE, "", 0.0

    await change_record(host, older)
    host.runtime.exit("b", 4)
    host.runtime.fault("inspect", Fault(delay_s=0.2, container="b"))
    await host.start()
    await host.until_known("RUNNING")
    reports = await host.deliver()
    assert [change.status for change in reports] == ["RUNNING"]
    assert [c.status for c in reports[0].containers] == ["RUNNING", "STOPPED"]


async def test_nothing_is_told_of_a_task_before_the_engine_was_asked(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    await host.deliver()

    def older(record: AgentTask) -> None:
        record.known = TaskStatus.NONE
        record.containers["a"].known = ContainerStatus.CREATED

    await change_record(host, older)
    host.runtime.away = True
    await host.start()
    await host.stop()
    await asyncio.sleep(0.1)
    assert await host.unsent() == []
    host.runtime.away = False
    await host.until_known("STOPPED")
    assert "PENDING" not in {change.status for change in await host.deliver()}


async def older_copy(tmp_path: Path) -> TaskHost:
    """Return a crashed host whose state is from before its task ran to its end and was forgotten."""
    host = TaskHost(tmp_path / "agent.db", cleanup_wait_s=0.0, confirmation_wait_s=60.0)
    await host.start()
    host.runtime.exits_at_once["a"] = 0
    host.runtime.away = True
    await host.order(container("a"))
    await host.crash()
    shutil.copytree(tmp_path, tmp_path.parent / "copy")
    host.runtime.away = False
    await host.start()
    await host.send(assignment(container("a")), full=True)
    await host.until_known("STOPPED")
    await host.deliver()
    await host.until(lambda: host.engine.tasks.known_tasks() == [])
    await host.crash()
    shutil.rmtree(tmp_path)
    shutil.copytree(tmp_path.parent / "copy", tmp_path)
    return host


async def test_a_task_that_ended_after_an_older_copy_was_made_is_not_run_again(
    tmp_path: Path, quick: None
) -> None:
    del quick
    host = await older_copy(tmp_path / "data")
    await host.start()
    await host.until(lambda: "still wanted" in str(host.engine.tasks.views()[0].waits))
    await asyncio.sleep(0.1)
    await host.send(full=True)
    await host.until(lambda: host.engine.tasks.known_tasks() == [] or host.record().is_done)
    assert host.runtime.count("start") == 1
    await host.close()


async def test_a_restored_task_that_is_still_wanted_begins_with_the_word_of_control(
    tmp_path: Path, quick: None
) -> None:
    del quick
    host = TaskHost(tmp_path / "agent.db", confirmation_wait_s=60.0)
    await host.start()
    host.runtime.away = True
    await host.order(container("a"))
    await host.order(container("b"), arn=OTHER)
    await host.crash()
    host.runtime.away = False
    await host.start()
    await asyncio.sleep(0.1)
    assert host.runtime.count("create") == 0
    await host.send(assignment(container("a")))
    await host.until_known("RUNNING")
    assert host.runtime.running() == {"a"}
    host.engine.listed()  # Amazon ECS has named all that it wants by another way
    await host.until_known("RUNNING", OTHER)
    await host.close()


async def test_a_restored_task_begins_by_itself_when_control_stays_away(
    tmp_path: Path, quick: None
) -> None:
    del quick
    host = TaskHost(tmp_path / "agent.db", confirmation_wait_s=0.3)
    await host.start()
    host.runtime.away = True
    await host.order(container("a"))
    await host.crash()
    host.runtime.away = False
    await host.start()
    await host.until_known("RUNNING")
    await host.close()


# -- networks -------------------------------------------------------------------------------------


async def test_a_sandbox_that_dies_before_anything_ran_is_replaced(host: TaskHost) -> None:
    """One container was made in it, the image of the other is still to come."""
    host.runtime.fault("pull", Fault(delay_s=0.3, container="busybox"))
    host.runtime.fault("start", Fault(EngineUnavailable("restarts"), container="a", times=2))
    await host.order(container("a"), network_mode="awsvpc")
    await host.until(lambda: host.record().network_held)
    host.networks.die()
    host.engine.network_lost(ARN, "it died")
    await host.until_known("RUNNING")
    assert host.networks.released == [ARN]
    network = host.record().network
    assert network is not None
    assert network.sandbox_id == "sandbox-2"
    assert host.runtime.box("a").network_mode == "container:sandbox-2"


async def test_a_container_that_was_made_for_a_dead_sandbox_is_made_again(host: TaskHost) -> None:
    host.runtime.fault("start", Fault(EngineUnavailable("restarts"), times=1000))
    await host.order(container("a"), network_mode="awsvpc")
    await host.until(lambda: host.container("a").known is ContainerStatus.CREATED)
    host.networks.die()
    host.engine.network_lost(ARN, "it died")
    host.runtime.clear_faults()
    await host.until_known("RUNNING")
    assert host.runtime.box("a").network_mode == "container:sandbox-2"
    assert len(host.runtime.boxes) == 1
    assert "STOPPED" not in {change.status for change in await host.deliver()}


async def test_a_task_that_has_run_ends_with_its_sandbox(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    host.networks.die()
    host.engine.network_lost(ARN, "the task's network sandbox stopped")
    await host.until_known("STOPPED")
    last = (await host.deliver())[-1]
    assert last.reason == "ContainerNetworkingError: the task's network sandbox stopped"


async def test_sandboxes_that_die_time_and_again_fail_the_task(host: TaskHost) -> None:
    host.runtime.fault("start", Fault(EngineUnavailable("restarts"), times=1000))
    await host.order(container("a"), network_mode="awsvpc")
    for number in range(1, 6):
        await host.until(lambda n=number: host.networks.made >= n)  # type: ignore[misc]
        host.networks.die()
        host.engine.network_lost(ARN, "it died")
        await asyncio.sleep(0.05)
    await host.until_known("STOPPED")
    assert (await host.deliver())[-1].reason == "ContainerNetworkingError: it died"


async def test_a_container_in_another_sandbox_than_its_task_s_ends_the_task(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    host.runtime.box("a").body["HostConfig"]["NetworkMode"] = "container:of-somebody"
    host.engine._runners[ARN].recheck("a")
    await host.until_known("STOPPED")
    reason = (await host.deliver())[-1].reason
    assert reason == (
        "ContainerNetworkingError: container a is in the network of sandbox of-somebody, "
        "but its task has sandbox-1"
    )


async def holders(host: TaskHost) -> dict[str, Holder]:
    restored = await RestoredTasks.open(host.store)
    return await restored.sandbox_holders(host.runtime, OWNER)


async def test_who_holds_which_sandbox_is_told_by_containers_and_records(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    assert await holders(host) == {"sandbox-1": Holder(ARN, "eni-1")}
    await forget_record(host)
    await host.start()
    assert await holders(host) == {"sandbox-1": Holder(ARN)}


async def test_what_a_restored_task_has_lost_or_really_has_is_told_to_it(host: TaskHost) -> None:
    await host.order(container("a"), network_mode="awsvpc")
    await host.order(container("b"), arn=OTHER, network_mode="awsvpc")
    await host.until_known("RUNNING")
    await host.until_known("RUNNING", OTHER)
    real = host.record().network
    assert real is not None

    def older(record: AgentTask) -> None:
        record.network, record.network_held = None, False

    await change_record(host, older)
    await host.start({ARN: real})
    assert host.record().network == real
    await host.until_known("STOPPED", OTHER)
    assert "sandbox is gone" in host.record(OTHER).reason
    assert host.record().known.wire() == "RUNNING"
