"""The gate of the agents' wire by itself, and in a real server."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.agents.longpoll.errors import Unauthorized
from agent.controlplane.agents.tokens import AgentTokens, carried, read
from agent.controlplane.names import DEFAULT_REGION
from agent.errors import ConfigError
from agent.model import tokens
from agent.model.wire import ErrorBody, Hello
from tests.support.control_endpoint import ScriptedAgent, control_endpoint
from tests.support.fleet import free_port

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, WRONG = "1" * 32, "2" * 32, "3" * 32


def token_file(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, ""),
        ("", ""),
        ("Bearer", ""),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", ""),
        ("abc", ""),
    ],
)
def test_the_token_of_a_header(header: str | None, token: str) -> None:
    assert carried(header) == token


@pytest.fixture(scope="module")
def agent_tokens(tmp_path_factory: pytest.TempPathFactory) -> AgentTokens:
    file = token_file(tmp_path_factory.mktemp("gate") / "tokens", "# old", ONE, TWO)
    made = AgentTokens.load(file)
    assert made.tokens == (ONE, TWO)
    return made


def test_every_token_of_the_file_passes(agent_tokens: AgentTokens) -> None:
    for token in (ONE, TWO):
        agent_tokens.check(f"Bearer {token}", "peer")


@given(st.text(st.characters(), max_size=80) | st.text(max_size=40).map("Bearer {}".format))
def test_no_other_header_passes(agent_tokens: AgentTokens, header: str) -> None:
    with pytest.raises(Unauthorized):
        agent_tokens.check(header, "peer")


def test_without_a_file_everybody_passes() -> None:
    agent_tokens = AgentTokens.load(None)
    assert not agent_tokens.tokens
    agent_tokens.check(None, "peer")


def test_a_missing_file_is_made_with_one_token_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    (made,) = AgentTokens.load(path).tokens
    assert path.stat().st_mode & 0o777 == 0o600
    (token,) = tokens.parse(path.read_text())
    assert token == made
    assert len(token) >= 40
    assert list(tmp_path.iterdir()) == [path]
    AgentTokens.load(path).check(f"Bearer {token}", "peer")


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ("", 0o600, "holds no token"),
        ("# nothing", 0o600, "holds no token"),
        ("tiny", 0o600, "line 1 is shorter"),
        ("ö" * 20, 0o600, "byte 0 is not ASCII"),
        ("a" * 70_000, 0o600, "larger than 64 KiB"),
        (ONE, 0o604, "chmod 600"),
        (ONE, 0o620, "chmod 600"),
    ],
)
def test_a_bad_file_is_one_line_and_keeps_what_was_there(
    tmp_path: Path, content: str, mode: int, told: str
) -> None:
    path = token_file(tmp_path / "tokens", TWO)
    agent_tokens = AgentTokens.load(path)
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=told) as caught:
        agent_tokens.take(read(path))
    assert str(caught.value).startswith(f"--token-file {path}: ")
    assert ONE not in str(caught.value)
    agent_tokens.check(f"Bearer {TWO}", "peer")


def test_no_file_where_none_can_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "tokens"):
        with pytest.raises(ConfigError, match="--token-file"):
            AgentTokens.load(path)


def test_a_group_that_may_read_is_a_warning(tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens", ONE)
    path.chmod(0o640)
    with structlog.testing.capture_logs() as logs:
        assert AgentTokens.load(path).tokens == (ONE,)
    assert [log["event"] for log in logs] == ["the token file can be read by its group"]


def test_refusals_are_logged_once_in_ten_seconds_and_without_the_token(tmp_path: Path) -> None:
    now = [100.0]
    agent_tokens = AgentTokens.load(token_file(tmp_path / "tokens", ONE), clock=lambda: now[0])
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            with contextlib.suppress(Unauthorized):
                agent_tokens.check(f"Bearer {WRONG}", "192.0.2.7")
        now[0] += 10.0
        with contextlib.suppress(Unauthorized):
            agent_tokens.check(None, "192.0.2.8")
    assert [(log["peer"], log["more_before"]) for log in logs] == [
        ("192.0.2.7", 0),
        ("192.0.2.8", 49),
    ]
    assert WRONG not in str(logs)


async def test_all_of_the_wire_asks_for_a_token_and_nothing_else_does(tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens", ONE, TWO)
    async with control_endpoint(tmp_path / "data", token_file=path) as endpoint:
        agent = ScriptedAgent(endpoint)
        calls = [
            ("GET", "/v1/hello"),
            ("POST", "/v1/instances"),
            ("PUT", "/v1/instances"),
            ("GET", "/v1/instances/x/assignments?after=0&wait=30"),
            ("POST", "/v1/instances/x/changes"),
            ("POST", "/v1/instances/x/usage"),
            ("DELETE", "/v1/instances/x"),
            ("GET", "/v1"),
            ("GET", "/v1/"),
            ("GET", "/v1/what/ever"),
            ("GET", "/%76%31/hello"),
        ]
        for method, where in calls:
            for headers in ({}, bearer(WRONG), {"Authorization": f"Basic {ONE}"}):
                status, body = await agent.send(method, where, b"{" * 9, headers=headers)
                assert (status, msgspec.json.decode(body, type=ErrorBody).code) == (
                    401,
                    "Unauthorized",
                ), (method, where)
        for token in (ONE, TWO):
            status, body = await agent.send("GET", "/v1/hello", headers=bearer(token))
            assert status == 200
        await endpoint.call("ListClusters")
        async with endpoint.session.get(f"{endpoint.url}/healthz") as answer:
            assert answer.status == 200


async def test_the_body_of_a_stranger_is_not_read(tmp_path: Path) -> None:
    """It may announce any length: the answer comes at once, and the connection ends soon."""
    path = token_file(tmp_path / "tokens", ONE)
    async with control_endpoint(tmp_path / "data", token_file=path) as endpoint:
        host, port = endpoint.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/instances HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8000000\r\n\r\n"
        )
        async with asyncio.timeout(1):
            assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        async with asyncio.timeout(5):
            await reader.read()  # to the end: it was closed
        writer.close()
        await writer.wait_closed()


async def test_a_change_of_tokens_without_a_restart(tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens", ONE)
    reload = asyncio.Event()
    async with control_endpoint(tmp_path / "data", token_file=path, reload=reload) as endpoint:
        agent = ScriptedAgent(endpoint)

        async def status_of(token: str) -> int:
            return (await agent.send("GET", "/v1/hello", headers=bearer(token)))[0]

        async def reread() -> str:
            with structlog.testing.capture_logs() as logs:
                reload.set()
                async with asyncio.timeout(5):
                    while not logs:  # noqa: ASYNC110 - a log line has no event
                        await asyncio.sleep(0.01)
            assert ONE not in str(logs)
            return str(logs[0]["event"])

        token_file(path, ONE, TWO)
        assert await reread() == "token file loaded"
        assert (await status_of(ONE), await status_of(TWO)) == (200, 200)
        token_file(path, TWO)
        assert await reread() == "token file loaded"
        assert (await status_of(ONE), await status_of(TWO)) == (401, 200)
        token_file(path, "# gone")
        assert await reread() == "token file not reloaded; the old tokens stay in use"
        assert await status_of(TWO) == 200


async def reread(reload: asyncio.Event, path: Path, *lines: str) -> None:
    """Change the token file and wait until control has read it."""
    token_file(path, *lines)
    with structlog.testing.capture_logs() as logs:
        reload.set()
        async with asyncio.timeout(5):
            while not any(line["event"] == "token file loaded" for line in logs):  # noqa: ASYNC110 - a log line has no event
                await asyncio.sleep(0.01)


async def test_a_token_that_is_taken_out_cuts_its_agents_off_at_once(tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens", ONE, TWO)
    reload = asyncio.Event()
    async with control_endpoint(tmp_path / "data", token_file=path, reload=reload) as endpoint:
        gone, stays = (ScriptedAgent(endpoint, token=token) for token in (ONE, TWO))
        polls = {}
        for agent in (gone, stays):
            await agent.register()
            await agent.poll()
            polls[agent] = asyncio.create_task(
                agent.send(
                    "GET", f"/v1/instances/{agent.id}/assignments?after={agent.revision}&wait=30"
                )
            )
        await asyncio.sleep(0.2)
        await reread(reload, path, TWO)
        async with asyncio.timeout(1):
            status, body = await polls[gone]
        assert status == 401
        told = msgspec.json.decode(body, type=ErrorBody)
        assert told.code == "Unauthorized"
        assert "is no longer in the token file" in told.message
        await asyncio.sleep(0.3)
        assert not polls[stays].done()
        await endpoint.call(
            "UpdateContainerInstancesState", containerInstances=[stays.arn], status="DRAINING"
        )
        async with asyncio.timeout(2):
            assert (await polls[stays])[0] == 200


async def test_a_call_that_is_under_way_ends_with_its_token(tmp_path: Path) -> None:
    """A body may take half a minute: what it says then is no longer taken."""
    path = token_file(tmp_path / "tokens", ONE, TWO)
    reload = asyncio.Event()
    async with control_endpoint(tmp_path / "data", token_file=path, reload=reload) as endpoint:
        host, port = endpoint.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/instances HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n"
            + f"Authorization: Bearer {ONE}\r\n\r\n{{".encode()
        )
        await asyncio.sleep(0.2)
        await reread(reload, path, TWO)
        async with asyncio.timeout(1):
            assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()


def test_what_was_let_in_is_told_once_when_its_token_goes(tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens", ONE, TWO)
    agent_tokens = AgentTokens.load(path)
    ends: list[str] = []
    one, two = (agent_tokens.check(f"Bearer {token}", "peer") for token in (ONE, TWO))
    with (
        agent_tokens.watching(one, lambda: ends.append("one")),
        agent_tokens.watching(two, lambda: ends.append("two")),
    ):
        with agent_tokens.watching(one, lambda: ends.append("left")):
            pass
        token_file(path, TWO)
        assert agent_tokens.take(read(path)) == 1
        assert agent_tokens.take(read(path)) == 0
        assert ends == ["one"]
    token_file(path, "# gone")
    with pytest.raises(ConfigError):
        agent_tokens.take(read(path))
    assert ends == ["one"]
    # It went between the check and now.
    with agent_tokens.watching(one, lambda: ends.append("late")):
        assert ends == ["one", "late"]


def test_what_was_let_in_ends_when_its_token_becomes_that_of_another_host(tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens", f"{ONE} a", TWO)
    agent_tokens = AgentTokens.load(path)
    ends: list[str] = []
    one, two = (agent_tokens.check(f"Bearer {token}", "peer") for token in (ONE, TWO))
    assert (one.name, two.name) == ("a", "")
    with (
        agent_tokens.watching(one, lambda: ends.append("one")),
        agent_tokens.watching(two, lambda: ends.append("two")),
    ):
        token_file(path, f"{ONE} b", TWO)
        assert agent_tokens.take(read(path)) == 1
    assert ends == ["one"]
    assert agent_tokens.check(f"Bearer {ONE}", "peer").name == "b"


def test_without_a_file_nobody_is_told_anything() -> None:
    agent_tokens = AgentTokens.load(None)
    ends: list[str] = []
    with agent_tokens.watching(agent_tokens.check(None, "peer"), lambda: ends.append("x")):
        agent_tokens.take(read(None))
    assert not ends


async def test_hello_says_who_control_is(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint)

        async def hello(query: str = "") -> Hello:
            status, body = await agent.send("GET", f"/v1/hello{query}")
            assert status == 200
            return msgspec.json.decode(body, type=Hello)

        registered = await agent.register()
        await endpoint.call("CreateCluster", clusterName="two")
        met = await hello()
        assert (met.control_id, met.clusters) == (registered.control_id, ["default", "two"])
        assert (met.region, met.takes_cluster) == (DEFAULT_REGION, None)
        assert (await hello("?cluster=two")).takes_cluster is True
        assert (await hello("?cluster=three")).takes_cluster is False
        await endpoint.call("DeleteCluster", cluster="two")
        assert (await hello("?cluster=two")).takes_cluster is False


async def test_an_address_for_agents_serves_no_operators(tmp_path: Path) -> None:
    port = free_port()
    path = token_file(tmp_path / "tokens", ONE)
    async with control_endpoint(
        tmp_path / "data", agent_listen=(f"127.0.0.1:{port}",), token_file=path
    ) as endpoint:
        url = f"http://127.0.0.1:{port}"
        headers = {"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListClusters"}
        async with endpoint.session.post(url, data=b"{}", headers=headers) as answer:
            assert answer.status == 404
            body = await answer.json(content_type=None)
            assert body["__type"] == "NotServedHere"
            assert "agents only" in body["message"]
        async with endpoint.session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        async with endpoint.session.get(f"{url}/v1/hello") as answer:
            assert answer.status == 401
            assert answer.headers["Connection"] == "close"
        async with endpoint.session.get(f"{url}/v1/hello", headers=bearer(ONE)) as answer:
            assert answer.status == 200
        await endpoint.call("ListClusters")


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who made it beforehand, in a directory that is not control's alone, would be let in by it."""
    file = token_file(tmp_path / "tokens", ONE)
    if os.geteuid() == 0:
        os.chown(file, 4711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(ConfigError, match=r"belongs to another user .*chown"):
        AgentTokens.load(file)
