"""An agent that lost part of its state, or was given an older copy: no healthy task notices."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe, pid_of, register, run
from tests.support.fleet import LONG_POLL, eventually, fleet, task_containers
from tests.support.private_engine import PrivateEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.fleet import Agent, Fleet

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
FAST = {"Delay": 0.2, "MaxAttempts": 300}
PAGE_BYTES = 4096
SERVE = "httpd -p 80 -h /www; exec sleep 1000"


@pytest.fixture
def one_host(
    docker0: None, leak_check: None, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Fleet]:
    """One control endpoint and one agent, over the wire that the test asks for."""
    del docker0, leak_check
    with fleet(tmp_path, wire=getattr(request, "param", LONG_POLL)) as made:
        yield made


@pytest.fixture
def docker0(busybox_image: str) -> Iterator[None]:
    """The engine's bridge as it is with a container on it: its routes come and go with the first."""
    run_on = ["docker", "run", "-d", "--rm", busybox_image, "sleep", "1000"]
    held = output(*run_on)
    time.sleep(3.0)  # until its IPv6 address is sure to be nobody else's
    yield
    output("docker", "rm", "-f", held)


def state_of(agent: Agent) -> Path:
    return agent.directory / f"{agent.name}-data" / "agent.db"


def output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip()


def page(address: str) -> str:
    """Return what a task serves, asked from the host."""
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=3) as answer:
            return str(answer.read().decode().strip())
    except OSError as error:
        return str(error)


def addresses(client: Any, *arns: str) -> dict[str, str]:
    """Return where each task serves, as control tells it: at its own address, or at the host's port."""
    found = {}
    for task in describe(client, *arns):
        if task["attachments"]:
            details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
            found[task["taskArn"]] = details["privateIPv4Address"]
        else:
            (binding,) = task["containers"][0]["networkBindings"]
            found[task["taskArn"]] = f"127.0.0.1:{binding['hostPort']}"
    return found


def unreachable(where: dict[str, str]) -> list[str]:
    """Return the addresses where no task serves."""
    return [at for at in where.values() if page(at) != "hello from busybox"]


def links() -> set[str]:
    """Return the names of sandboxes' links on the host."""
    return {line.split()[1].split("@")[0] for line in output("ip", "-o", "link").splitlines()} - {
        "lo:"
    }


def start_servers(client: Any, image: str) -> list[str]:
    """Run two tasks with an address of their own, one of two containers, and two with dynamic ports."""
    own = register(client, image, SERVE, "sleep 1000", mode="awsvpc")
    ports = {"portMappings": [{"containerPort": 80, "hostPort": 0}]}
    bridge = register(client, image, SERVE, mode="bridge", containers=[ports])
    arns = run(client, own, count=2, networkConfiguration=NETWORK) + run(client, bridge, count=2)
    client.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=FAST)
    return arns


def _execute(*statements: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return damage


def _root_of_records(path: Path) -> int:
    """Fold the log into the file, and return where the root page of the records begins."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'records'"
        (root,) = connection.execute(query).fetchone()
    return (int(root) - 1) * PAGE_BYTES


def garble_page(path: Path) -> None:
    """The records cannot be found any more, all else can."""
    at = _root_of_records(path)
    with path.open("rb+") as file:
        file.seek(at)
        file.write(b"\xa5" * PAGE_BYTES)


def truncate(path: Path) -> None:
    """The file ends behind the root of the records."""
    at = _root_of_records(path)
    with path.open("rb+") as file:
        file.truncate(at + PAGE_BYTES)


DAMAGES = {
    "garbled page": garble_page,
    "truncated": truncate,
    "tasks lost": _execute("DELETE FROM records WHERE kind = 'task'"),
    "sandboxes lost": _execute("DELETE FROM records WHERE kind = 'sandbox'"),
    "all rows lost": _execute("DELETE FROM records"),
    "unreadable tasks": _execute("UPDATE records SET body = '{\"payload\":' WHERE kind = 'task'"),
    "sandboxes claimed by nobody": _execute(
        "UPDATE records SET body = json_remove(body, '$.taskArn', '$.attachmentId', '$.claimedAt')"
        " WHERE kind = 'sandbox'"
    ),
    "records without ports and networks": _execute(
        "UPDATE records SET body = json_remove(body, '$.hostPorts', '$.network', '$.networkHeld',"
        " '$.containers.c0.bindings') WHERE kind = 'task'"
    ),
    "wrong ports": _execute(
        "UPDATE records SET body = json_replace(body, '$.hostPorts', json('{\"c0/80/tcp\":[61999]}'))"
        " WHERE kind = 'task' AND json_extract(body, '$.hostPorts') IS NOT NULL"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_tasks_keep_their_network_and_tell_the_right_port(
    one_host: Fleet,
    busybox_image: str,
    containers_of: Callable[[str], list[str]],
    damage: Callable[[Path], None],
) -> None:
    """First without control, then with it."""
    client, agent = one_host.client(), one_host.agents[0]
    arns = start_servers(client, busybox_image)
    where = addresses(client, *arns)
    pids = {arn: [pid_of(c) for c in containers_of(arn)] for arn in arns}
    eventually(lambda: unreachable(where) == [], what="all serve")

    agent.kill()
    one_host.control.stop()
    damage(state_of(agent))
    before, links_before = task_containers(), links()
    agent.log.unlink()
    agent.start()
    eventually(lambda: "task networks ready" in agent.tail(200), what="it has taken over")
    time.sleep(3.0)
    assert before <= task_containers(), "nothing is removed before control has said what it wants"
    assert links_before <= links()
    assert unreachable(where) == []

    one_host.control.start()
    one_host.control.ready()
    one_host.wait_connected()
    eventually(
        lambda: {t["arn"] for t in agent.json("tasks") if t["status"] == "RUNNING"} >= set(arns),
        what="all are known to run",
    )
    time.sleep(2.0)  # whatever is done about left-overs is done by now
    assert {arn: [pid_of(c) for c in containers_of(arn)] for arn in arns} == pids
    assert [t["lastStatus"] for t in describe(client, *arns)] == ["RUNNING"] * len(arns)
    assert addresses(client, *arns) == where
    assert unreachable(where) == []
    tasks = {arn: agent.json("task", arn) for arn in arns}
    for arn, at in where.items():
        assert at.removeprefix("127.0.0.1:") in str(tasks[arn]), "the agent says so, too"
    client.stop_task(task=arns[0])
    client.get_waiter("tasks_stopped").wait(tasks=arns[:1], WaiterConfig=FAST)
    assert page(where[arns[1]]) == "hello from busybox"


@pytest.fixture
def private_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateEngine]:
    """An engine that the test may stop, for agents and for the test itself."""
    directory = Path(tempfile.mkdtemp(prefix="ecs-"))  # short: sockets below it have long names
    made = PrivateEngine(directory)
    made.start()
    monkeypatch.setenv("DOCKER_HOST", made.host)
    yield made
    made.end()
    shutil.rmtree(directory)


def test_an_older_copy_takes_nothing_back(
    private_engine: PrivateEngine, containers_of: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """What has ended since does not run again, what has begun since runs on."""
    image = private_engine.busybox()
    runs = tmp_path / "runs"
    runs.mkdir()
    with fleet(tmp_path) as made:
        client, agent = made.client(), made.agents[0]
        once = register(
            client,
            image,
            "echo run >> /runs/log",
            mode="awsvpc",
            volumes=[{"name": "runs", "host": {"sourcePath": str(runs)}}],
            containers=[{"mountPoints": [{"sourceVolume": "runs", "containerPath": "/runs"}]}],
        )
        with private_engine.stalled():  # the order is on the disk, and nothing has begun
            (ended,) = run(client, once, networkConfiguration=NETWORK)
            eventually(lambda: ended in {t["arn"] for t in agent.json("tasks")}, what="accepted")
            agent.kill()
        copy = tmp_path / "copy"
        shutil.copytree(state_of(agent).parent, copy)
        agent.start()
        client.get_waiter("tasks_stopped").wait(tasks=[ended], WaiterConfig=FAST)
        eventually(agent.has_no_tasks, what="its record is gone")
        arns = start_servers(client, image)
        where = addresses(client, *arns)
        pids = {arn: [pid_of(c) for c in containers_of(arn)] for arn in arns}
        eventually(lambda: unreachable(where) == [], what="all serve")

        agent.kill()
        made.control.stop()
        shutil.rmtree(state_of(agent).parent)
        shutil.copytree(copy, state_of(agent).parent)
        agent.log.unlink()
        agent.start()
        eventually(lambda: "task networks ready" in agent.tail(200), what="it has taken over")
        time.sleep(3.0)
        assert "still wanted" in agent.cli("why", ended)
        assert unreachable(where) == []
        made.control.start()
        made.control.ready()
        made.wait_connected()
        eventually(
            lambda: (
                {t["arn"] for t in agent.json("tasks") if t["status"] == "RUNNING"} == set(arns)
            ),
            what="all are known to run, and nothing else",
        )
        assert (runs / "log").read_text() == "run\n", "it ran once"
        assert {arn: [pid_of(c) for c in containers_of(arn)] for arn in arns} == pids
        assert addresses(client, *arns) == where
        assert unreachable(where) == []
        assert describe(client, ended)[0]["lastStatus"] == "STOPPED"
