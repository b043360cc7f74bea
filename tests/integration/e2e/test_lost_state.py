"""What the agent wrote down is lost or damaged: no container notices, and control knows the host again."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, pid_of, register, run
from tests.support.fleet import Agent, Fleet, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
FAST = {"Delay": 1, "MaxAttempts": 60}
PAGE = 4096


def data_of(fleet: Fleet, agent: Agent) -> Path:
    return fleet.directory / f"{agent.name}-data"


def is_up(agent: Agent) -> bool:
    text = agent.cli("status", "--json", check=False)
    return bool(text) and bool(json.loads(text)["controlConnected"])


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
        (lose_the_state_file, "had lost who this host is"),
        (garble_everything, "nothing of it could be read"),
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
    eventually(lambda: is_up(agent), what="the agent is back")
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
