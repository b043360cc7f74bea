"""What the agent wrote down is lost or damaged: no container notices, and control knows the host again."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.controlplane import records
from agent.controlplane.store.contract import DeletePrefix
from agent.controlplane.store.sqlite import SqliteStore
from tests.integration.e2e.conftest import NETWORK, describe, pid_of, register, run
from tests.support.fleet import ACS, LONG_POLL, Agent, Fleet, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
FAST = {"Delay": 0.2, "MaxAttempts": 300}
PAGE = 4096
by_our_wire = pytest.mark.parametrize("one_host", [LONG_POLL], indirect=True)
by_amazons_wire = pytest.mark.parametrize("one_host", [ACS], indirect=True)


def data_of(fleet: Fleet, agent: Agent) -> Path:
    return fleet.directory / f"{agent.name}-data"


def zero_meta(data: Path) -> None:
    """The root page of ``meta``, in the file; the log is folded in before. The records stay whole."""
    path = data / "agent.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'meta'"
        (root,) = database.execute(query).fetchone()
    database.close()
    with path.open("rb+") as file:
        file.seek((root - 1) * PAGE)
        file.write(bytes(PAGE))


def lose_the_state_file(data: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        (data / f"agent.db{suffix}").unlink(missing_ok=True)


def garble_everything(data: Path) -> None:
    (data / "agent.db").write_bytes(b"\xa5" * 50_000)
    (data / "agent.db-wal").write_bytes(b"\xa5" * 50_000)


@pytest.mark.parametrize(
    ("lose", "word"),
    [
        (zero_meta, "was damaged"),
        (lose_the_state_file, "had lost the identity of this host"),
        (garble_everything, "nothing in it could be read"),
    ],
)
def test_no_container_dies_of_it(
    one_host: Fleet,
    busybox_image: str,
    containers_of: Callable[[str], list[str]],
    lose: Callable[[Path], None],
    word: str,
) -> None:
    client, agent = one_host.client(), one_host.agents[0]
    plain = register(client, busybox_image, "sleep 1000")
    own_ip = register(client, busybox_image, "sleep 1000", mode="awsvpc")
    arns = run(client, plain, count=2) + run(client, own_ip, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    before = {arn: [pid_of(c) for c in containers_of(arn)] for arn in arns}
    instances = client.list_container_instances()["containerInstanceArns"]

    agent.kill()
    lose(data_of(one_host, agent))
    agent.start()
    eventually(agent.is_connected, what="the agent is back")
    eventually(lambda: len(agent.json("tasks")) == 3, what="every task is here again")
    assert client.list_container_instances()["containerInstanceArns"] == instances
    degraded = " ".join(agent.json("status")["degraded"])
    assert word in degraded
    assert word in agent.tail(400)
    # New tasks start, of either kind, and the old ones can be stopped.
    fresh = run(client, plain) + run(client, own_ip, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=fresh, WaiterConfig=FAST)
    assert {arn: [pid_of(c) for c in containers_of(arn)] for arn in arns} == before
    assert [task["lastStatus"] for task in describe(client, *arns)] == ["RUNNING"] * 3
    for arn in arns:
        client.stop_task(task=arn)
    client.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=FAST)
    assert not any(containers_of(arn) for arn in arns)


@by_our_wire  # Amazon's has no word for it: a new instance, as with Amazon's agent
def test_all_of_the_data_directory_is_lost(
    one_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    """Both places are gone: by our wire, control knows the host by its machine, and says what it wants."""
    client, agent = one_host.client(), one_host.agents[0]
    plain = register(client, busybox_image, "sleep 1000")
    wanted, ended = run(client, plain, count=2)
    client.get_waiter("tasks_running").wait(tasks=[wanted, ended], WaiterConfig=FAST)
    before = [pid_of(c) for c in containers_of(wanted)]
    instances = client.list_container_instances()["containerInstanceArns"]

    agent.kill()
    shutil.rmtree(data_of(one_host, agent))
    client.stop_task(task=ended)
    agent.start()
    eventually(agent.is_connected, what="the agent is back")
    client.get_waiter("tasks_stopped").wait(tasks=[ended], WaiterConfig=FAST)
    client.get_waiter("tasks_running").wait(tasks=[wanted], WaiterConfig=FAST)
    assert client.list_container_instances()["containerInstanceArns"] == instances
    eventually(lambda: not containers_of(ended), what="what is not wanted is stopped")
    assert [pid_of(c) for c in containers_of(wanted)] == before
    own_ip = register(client, busybox_image, "sleep 1000", mode="awsvpc")
    fresh = run(client, own_ip, networkConfiguration=NETWORK)
    client.get_waiter("tasks_running").wait(tasks=fresh, WaiterConfig=FAST)


class OlderCopy:
    """Tasks that an older copy of control's store knows, or does not, or does not know the end of."""

    def __init__(self, fleet: Fleet, image: str, containers_of: Callable[[str], list[str]]) -> None:
        self.fleet, self.client = fleet, fleet.client()
        self._containers_of = containers_of
        self._data, self._copy = fleet.directory / "control", fleet.directory / "copy"
        plain = register(self.client, image, "sleep 1000")
        self.known, self.ended = run(self.client, plain), run(self.client, plain)
        self._wait("running", self.known + self.ended)
        fleet.control.stop()
        self._copy.mkdir()
        for name in ("control.db", "control.db-wal"):
            if (self._data / name).exists():
                shutil.copy(self._data / name, self._copy)
        fleet.control.start()
        fleet.control.ready()
        fleet.wait_connected()
        self.lost = run(self.client, plain, count=2)
        self._wait("running", self.lost)
        for container in containers_of(self.ended[0]):
            subprocess.run(["docker", "kill", container], check=True, capture_output=True)
        self._wait("stopped", self.ended)
        agent = fleet.agents[0]
        eventually(lambda: len(agent.json("tasks")) == 3, what="the end is forgotten")
        self.before = self.processes()
        self.instances = self.client.list_container_instances()["containerInstanceArns"]

    def processes(self) -> dict[str, list[int]]:
        """The process ids of all that is to run."""
        arns = self.known + self.lost
        return {arn: [pid_of(c) for c in self._containers_of(arn)] for arn in arns}

    def put_in_place(self, *, forget_revision: bool) -> None:
        self.fleet.control.stop()
        for name in ("control.db", "control.db-wal"):
            (self._data / name).unlink(missing_ok=True)
        if forget_revision:
            (self._data / "control.db.revision").unlink()
        for file in self._copy.iterdir():
            shutil.copy(file, self._data)
        self.fleet.control.start()
        self.fleet.control.ready()

    def _wait(self, status: str, arns: list[str]) -> None:
        self.client.get_waiter(f"tasks_{status}").wait(tasks=arns, WaiterConfig=FAST)

    def wait_until_it_is_as_before(self, running: list[str]) -> None:
        def is_so() -> bool:
            tasks = self.client.describe_tasks(tasks=running)["tasks"]
            return [task["lastStatus"] for task in tasks] == ["RUNNING"] * len(running)

        eventually(is_so, what="what was forgotten is known again")
        self._wait("stopped", self.ended)
        assert self.processes() == self.before
        assert self.client.list_container_instances()["containerInstanceArns"] == self.instances
        held = {task["arn"] for task in self.fleet.agents[0].json("tasks")}
        assert held == {*self.known, *self.lost}

    def stop(self, arns: list[str]) -> None:
        for arn in arns:
            self.client.stop_task(task=arn)
        self._wait("stopped", arns)
        assert not any(self._containers_of(arn) for arn in arns)


@by_our_wire
@pytest.mark.parametrize("watermark", ["kept", "lost"])
def test_an_older_copy_of_controls_store_stops_nothing(
    one_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]], watermark: str
) -> None:
    """Both sides say the same in the end, and no container was touched on the way."""
    scene, agent = OlderCopy(one_host, busybox_image, containers_of), one_host.agents[0]
    scene.put_in_place(forget_revision=watermark == "lost")
    scene.wait_until_it_is_as_before(scene.known + scene.lost)
    assert "control went back" in " ".join(agent.json("status")["degraded"])
    assert "control went back" in agent.tail(200)
    scene.stop(scene.known + scene.lost)


@by_amazons_wire
def test_an_older_copy_by_amazons_wire(
    one_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    """It has no word for tasks that control forgot: they run on, until somebody stops them here."""
    scene, agent = OlderCopy(one_host, busybox_image, containers_of), one_host.agents[0]
    scene.put_in_place(forget_revision=False)
    one_host.wait_connected()
    agent.kill()
    agent.start()  # after which all that control wants is ordered again
    eventually(agent.is_connected, what="the agent is back")
    scene.wait_until_it_is_as_before(scene.known)
    scene.stop(scene.known)
    for arn in scene.lost:
        agent.cli("stop", arn)
    eventually(lambda: not any(containers_of(arn) for arn in scene.lost), what="all are stopped")


async def forget_machines(store_file: Path) -> None:
    """Take from control all by which it knows a host that has lost its state."""
    store = await SqliteStore.open(store_file)
    await store.txn([], [DeletePrefix(records.MACHINES)])
    await store.close()


@by_our_wire  # by Amazon's, an agent asks about every task that is not listed
def test_a_host_that_control_cannot_know_again_kills_nothing(
    one_host: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    """It is a new instance, with an empty full set: what it ran before is asked about, and goes on."""
    client, agent = one_host.client(), one_host.agents[0]
    plain = register(client, busybox_image, "sleep 1000")
    wanted, stopping = run(client, plain, count=2)
    client.get_waiter("tasks_running").wait(tasks=[wanted, stopping], WaiterConfig=FAST)
    before = [pid_of(c) for c in containers_of(wanted)]
    agent.kill()
    zero_meta(data_of(one_host, agent))
    (data_of(one_host, agent) / "agent.db.identity").unlink()
    client.stop_task(task=stopping)
    one_host.control.stop()
    asyncio.run(forget_machines(one_host.directory / "control" / "control.db"))
    one_host.control.start()
    one_host.control.ready()
    agent.start()
    eventually(agent.is_connected, what="the agent is back")
    assert len(client.list_container_instances()["containerInstanceArns"]) == 2

    def is_moved() -> bool:
        (task,) = describe(client, wanted)
        return bool(task["containerInstanceArn"] == agent.json("status")["instanceArn"])

    # Not before the instance that it was counts as away.
    eventually(is_moved, within_s=120, what="the task goes on as that of the new instance")
    client.get_waiter("tasks_stopped").wait(tasks=[stopping], WaiterConfig=FAST)
    assert not containers_of(stopping)
    assert [pid_of(c) for c in containers_of(wanted)] == before
    assert describe(client, wanted)[0]["lastStatus"] == "RUNNING"
