"""The operators' socket, spoken to over a real Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
import yarl
from aiohttp import ClientError
from structlog.testing import capture_logs

from agent.endpoints import operator
from agent.endpoints.operator import OperatorSocket
from agent.errors import (
    EngineRefused,
    EngineUnavailable,
    NetworkFailure,
    NoSuchContainer,
    StateFailure,
)
from agent.model.network_views import NetworkCheckView, NetworkView, TraceView
from agent.model.views import AgentView, Problem, TaskView
from agent.runtime.protocol import LogSelection
from tests.support.control_host import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import ClientResponse, ClientSession

    from agent.inotify import DirectoryWatch
    from tests.unit.endpoints.conftest import FakeAgent


async def problem(response: ClientResponse, status: int) -> str:
    assert response.status == status
    return msgspec.json.decode(await response.read(), type=Problem).message


async def test_shows_the_agent_and_its_tasks(http: ClientSession, agent: FakeAgent) -> None:
    async with http.get("/v1/agent") as response:
        view = msgspec.json.decode(await response.read(), type=AgentView)
    assert view == agent.agent_view()
    async with http.get("/v1/tasks") as response:
        assert response.content_type == "application/json"
        tasks = msgspec.json.decode(await response.read(), type=list[TaskView])
    assert tasks == agent.tasks


@pytest.mark.parametrize("name", ["bb33", "b", "arn:aws:ecs:local:0:task/default/bb33"])
async def test_a_task_by_id_prefix_or_arn(http: ClientSession, agent: FakeAgent, name: str) -> None:
    url = yarl.URL(f"/v1/tasks/{quote(name, safe='')}", encoded=True)
    async with http.get(url) as response:
        view = msgspec.json.decode(await response.read(), type=TaskView)
    assert view == agent.tasks[2]


async def test_an_ambiguous_prefix_lists_what_it_could_mean(http: ClientSession) -> None:
    async with http.get("/v1/tasks/aa") as response:
        text = await problem(response, 409)
    assert text == (
        "'aa' matches several tasks: aa22 (web:3, RUNNING), aa11 (web:3, RUNNING); use the beginning "
        "of an id"
    )


async def test_an_unknown_task_names_the_mend(http: ClientSession) -> None:
    async with http.get("/v1/tasks/zz") as response:
        text = await problem(response, 404)
    assert text == (
        "no task 'zz' on this host; there are bb33 (web:3, RUNNING), aa22 (web:3, RUNNING), "
        "aa11 (web:3, RUNNING)"
    )


async def test_a_container_by_its_name_alone(http: ClientSession, agent: FakeAgent) -> None:
    agent.tasks = agent.tasks[1:2]
    async with http.get("/v1/tasks/app/logs") as response:
        assert response.status == 200
    async with http.get("/v1/tasks/web/logs") as response:
        assert "several containers; choose one with --container: app" in await problem(
            response, 400
        )
    async with http.post("/v1/tasks/web/stop") as response:
        assert response.status == 202
    assert agent.stopped[0][0] == agent.tasks[0].arn


async def test_stops_a_task(http: ClientSession, agent: FakeAgent) -> None:
    async with http.post("/v1/tasks/bb/stop", json={"reason": "too loud"}) as response:
        assert response.status == 202
        view = msgspec.json.decode(await response.read(), type=TaskView)
    async with http.post("/v1/tasks/aa11/stop") as response:
        assert response.status == 202
    assert view.id == "bb33"
    assert agent.stopped == [
        (agent.tasks[2].arn, "too loud"),
        (agent.tasks[0].arn, "Task stopped by an operator of the host"),
    ]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"reason": 5}', b"\xff"])
async def test_a_bad_stop_order_is_refused(
    http: ClientSession, agent: FakeAgent, body: bytes
) -> None:
    async with http.post("/v1/tasks/bb/stop", data=body) as response:
        assert "reason" in await problem(response, 400)
    assert not agent.stopped


async def test_drains_the_host(http: ClientSession, agent: FakeAgent) -> None:
    async with http.post("/v1/drain", json={"wanted": True, "deadline": 5.5}) as response:
        assert response.status == 202
        assert msgspec.json.decode(await response.read(), type=AgentView) == agent.agent_view()
    async with http.post("/v1/drain", data=b"{}") as response:
        assert "not an order to drain" in await problem(response, 400)
    assert agent.drains == [(True, 5.5)]


async def test_shows_task_networks(http: ClientSession, agent: FakeAgent) -> None:
    async with http.get("/v1/network") as response:
        view = msgspec.json.decode(await response.read(), type=NetworkView)
    assert view == agent.networks.shown
    agent.networks.error = NetworkFailure("nft is not installed")
    async with http.get("/v1/network") as response:
        assert await problem(response, 503) == "nft is not installed"


async def test_checks_task_networks(http: ClientSession, agent: FakeAgent) -> None:
    async with http.post("/v1/network/check", json={}) as response:
        view = msgspec.json.decode(await response.read(), type=NetworkCheckView)
    assert [each.repaired for each in view.differences] == [False, False]
    async with http.post("/v1/network/check", json={"repair": True}) as response:
        view = msgspec.json.decode(await response.read(), type=NetworkCheckView)
    assert [each.repaired for each in view.differences] == [True, True]
    async with http.post("/v1/network/check", json={"mend": True}) as response:
        assert "not an order to check" in await problem(response, 400)
    assert agent.networks.repairs == [False, True]


async def test_traces_a_connection(http: ClientSession, agent: FakeAgent) -> None:
    agent.tasks[0] = msgspec.structs.replace(agent.tasks[0], ipv4="10.207.0.2")
    async with http.post("/v1/tasks/aa22/trace", json={"peer": "aa11", "port": 80}) as response:
        view = msgspec.json.decode(await response.read(), type=TraceView)
    assert view == agent.networks.trace_view
    order = {"peer": "2001:DB8::1", "port": 53, "protocol": "udp"}
    async with http.post("/v1/tasks/aa11/trace", json=order) as response:
        assert response.status == 200
    assert agent.networks.traced == [
        ("aa22", ["r-2"], "10.207.0.2", 80, "tcp"),
        ("aa11", ["r-app"], "2001:db8::1", 53, "udp"),
    ]


@pytest.mark.parametrize(
    ("task", "order", "status", "text"),
    [
        ("aa11", {"peer": "10.0.0.1", "port": 0}, 400, "not an order to trace"),
        ("aa11", {"peer": "10.0.0.1", "port": 1, "protocol": "icmp"}, 400, "not an order to trace"),
        ("aa11", {"peer": "nowhere", "port": 1}, 404, "no task 'nowhere'"),
        ("aa11", {"peer": "bb33", "port": 1}, 409, "has no address of its own"),
        ("bb33", {"peer": "10.0.0.1", "port": 1}, 409, "no container that runs"),
    ],
)
async def test_a_trace_that_cannot_be_is_refused(
    http: ClientSession, task: str, order: dict[str, object], status: int, text: str
) -> None:
    async with http.post(f"/v1/tasks/{task}/trace", json=order) as response:
        assert text in await problem(response, status)


async def test_wrong_paths_methods_and_sizes_are_problems(http: ClientSession) -> None:
    async with http.get("/nowhere") as response:
        assert "Not Found" in await problem(response, 404)
    async with http.delete("/v1/tasks/bb33") as response:
        assert "Method Not Allowed" in await problem(response, 405)
    async with http.post("/v1/tasks/bb/stop", data=b"x" * 100_000) as response:
        await problem(response, 413)


async def test_an_unforeseen_error_is_a_500_and_not_the_end(
    http: ClientSession, agent: FakeAgent
) -> None:
    tasks, agent.tasks = agent.tasks, None  # type: ignore[assignment]
    with capture_logs() as lines:
        async with http.get("/v1/tasks/bb") as response:
            assert "see its log" in await problem(response, 500)
    assert [line["event"] for line in lines] == ["a local request failed"]
    agent.tasks = tasks
    async with http.get("/v1/tasks/bb") as response:
        assert response.status == 200


async def test_logs_of_the_only_container(http: ClientSession, agent: FakeAgent) -> None:
    async with http.get("/v1/tasks/aa11/logs?tail=20") as response:
        assert await response.read() == b"one\ntwo\n"
    assert agent.asked == [("r-app", LogSelection(tail=20))]
    assert agent.log_closed.is_set()


async def test_part_of_a_log_with_times(http: ClientSession, agent: FakeAgent) -> None:
    async with http.get(
        "/v1/tasks/aa11/logs?since=1767323045000000006&timestamps=true"
    ) as response:
        assert response.status == 200
    selection = LogSelection(since_ns=1767323045000000006, timestamps=True)
    assert agent.asked == [("r-app", selection)]


async def test_follows_a_log_until_the_client_leaves(http: ClientSession, agent: FakeAgent) -> None:
    agent.hold.clear()
    async with http.get("/v1/tasks/aa22/logs?container=app&follow=true") as response:
        assert await response.content.readexactly(8) == b"one\ntwo\n"
        assert not agent.log_closed.is_set()
        response.close()
    async with asyncio.timeout(5):
        await agent.log_closed.wait()
    assert agent.asked == [("r-2", LogSelection(follow=True))]


async def test_a_quiet_log_answers_at_once(http: ClientSession, agent: FakeAgent) -> None:
    agent.log = []
    agent.hold.clear()
    async with asyncio.timeout(5), http.get("/v1/tasks/aa11/logs?follow=1") as response:
        assert response.status == 200
        response.close()


async def test_a_slow_reader_holds_the_log_back(http: ClientSession, agent: FakeAgent) -> None:
    agent.log = [b"x" * 65536] * 2000
    async with http.get("/v1/tasks/aa11/logs?follow=true") as response:
        await asyncio.sleep(0.5)
        held_at = agent.produced
        await asyncio.sleep(0.3)
        assert agent.produced == held_at < 1000
        assert len(await response.read()) == 2000 * 65536


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("aa22/logs", 400, "several containers; choose one with --container: app, side"),
        ("aa22/logs?container=no", 404, "no container 'no'; it has app, side"),
        ("aa22/logs?container=side", 409, "has not been created"),
        ("aa11/logs?tail=-1", 400, "tail=-1 must be a number"),
        ("aa11/logs?since=yesterday", 400, "since=yesterday must be nanoseconds"),
        ("aa11/logs?follow=maybe", 400, "follow=maybe must be true or false"),
    ],
)
async def test_bad_log_requests_say_what_is_wrong(
    http: ClientSession, path: str, status: int, text: str
) -> None:
    async with http.get(f"/v1/tasks/{path}") as response:
        assert text in await problem(response, status)


async def test_a_stop_that_cannot_be_saved_says_why(
    http: ClientSession, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_arn: str, _reason: str) -> None:
        raise StateFailure("the disk is full")

    monkeypatch.setattr(agent, "stop_task", fail)
    async with http.post("/v1/tasks/aa11/stop") as response:
        assert await problem(response, 503) == "the disk is full"


@pytest.mark.parametrize(
    ("error", "status"),
    [(NoSuchContainer("gone"), 404), (EngineUnavailable("away"), 503), (EngineRefused("no"), 409)],
)
async def test_a_log_that_cannot_be_had_is_a_problem(
    http: ClientSession, agent: FakeAgent, error: Exception, status: int
) -> None:
    agent.log = [error]
    async with http.get("/v1/tasks/aa11/logs") as response:
        assert await problem(response, status) == str(error)


async def test_a_log_that_fails_midway_is_cut_off_not_ended(
    http: ClientSession, agent: FakeAgent
) -> None:
    agent.log = [b"begun\n", EngineUnavailable("away")]
    with pytest.raises((ClientError, ConnectionError)):
        async with http.get("/v1/tasks/aa11/logs") as response:
            await response.read()


async def test_the_socket_is_private_and_goes_with_its_server(
    served: OperatorSocket, socket_path: Path
) -> None:
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
    await served.close()
    await served.close()
    assert not socket_path.exists()


async def until_answered(path: Path) -> None:
    """Return when the agent answers on a socket."""
    async with asyncio.timeout(5):
        while True:
            connector = aiohttp.UnixConnector(str(path))
            with contextlib.suppress(ClientError):
                async with (
                    aiohttp.ClientSession("http://agent", connector=connector) as session,
                    session.get("/v1/agent") as response,
                ):
                    assert response.status == 200
                    return
            await asyncio.sleep(0.01)


def _repaired(served: OperatorSocket, times: int) -> bool:
    return len(served.repairs) > times


def _with_directory(path: Path) -> None:
    # The socket may be back before the directory is gone, which then stays.
    shutil.rmtree(path.parent, ignore_errors=True)


@pytest.mark.parametrize("remove", [Path.unlink, _with_directory])
async def test_a_socket_that_was_removed_is_made_again(
    tmp_path: Path, agent: FakeAgent, remove: Callable[[Path], None]
) -> None:
    """The kernel tells: the regular look would come after a minute."""
    path = tmp_path / "run/agent.sock"
    served = await OperatorSocket.open(path, agent)
    keeping = asyncio.create_task(served.keep())
    for n in range(2):
        await asyncio.to_thread(remove, path)
        await until_answered(path)
        await until(partial(_repaired, served, n))
        assert await asyncio.to_thread(lambda: path.stat().st_mode & 0o777) == 0o600
    keeping.cancel()
    await asyncio.wait([keeping])
    await served.close()
    assert not await asyncio.to_thread(path.exists)


async def test_a_socket_that_cannot_be_made_again_is_told_of_until_it_can(
    tmp_path: Path, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "UNTOLD_LOOK_EVERY_S", 0.02)
    path = tmp_path / "run/agent.sock"
    served = await OperatorSocket.open(path, agent)
    keeping = asyncio.create_task(served.keep())

    def block() -> None:
        shutil.rmtree(path.parent)
        path.parent.write_text("")

    await asyncio.to_thread(block)
    await until(lambda: served.problem)
    assert "cannot be made" in served.problem
    await asyncio.to_thread(path.parent.unlink)
    await until_answered(path)
    await until(lambda: not served.problem)
    keeping.cancel()
    await asyncio.wait([keeping])
    await served.close()


async def test_without_news_of_the_kernel_the_socket_is_looked_for(
    tmp_path: Path, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> DirectoryWatch:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(operator, "DirectoryWatch", refuse)
    monkeypatch.setattr(operator, "UNTOLD_LOOK_EVERY_S", 0.02)
    path = tmp_path / "run/agent.sock"
    served = await OperatorSocket.open(path, agent)
    keeping = asyncio.create_task(served.keep())
    await asyncio.to_thread(path.unlink)
    await until_answered(path)
    keeping.cancel()
    await asyncio.wait([keeping])
    await served.close()


async def test_closing_cuts_followers_off(
    http: ClientSession, served: OperatorSocket, agent: FakeAgent
) -> None:
    agent.hold.clear()
    async with http.get("/v1/tasks/aa11/logs?follow=true") as response:
        await response.content.readexactly(8)
        async with asyncio.timeout(0.5):
            await served.close()
            await agent.log_closed.wait()
        response.close()
