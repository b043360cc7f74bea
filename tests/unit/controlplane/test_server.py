from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.controlplane.front.sites import ListenFailure, parse_listen
from agent.controlplane.server.serving import serve
from agent.controlplane.server.settings import ControlSettings
from agent.controlplane.store.contract import StoreFailure
from agent.errors import ConfigError
from tests.support.control_endpoint import ScriptedAgent, control_endpoint, definition

if TYPE_CHECKING:
    from pathlib import Path


async def test_health_and_unknown_paths(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        async with endpoint.session.get(f"{endpoint.url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        async with endpoint.session.get(f"{endpoint.url}/what") as answer:
            assert answer.status == 404


async def test_stops_quickly_while_polls_are_held(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agents = [ScriptedAgent(endpoint) for _ in range(5)]
        for agent in agents:
            await agent.register()
            await agent.poll(after=0)
        polls = [asyncio.create_task(agent.poll(wait_s=30)) for agent in agents]
        await asyncio.sleep(0.1)
        # The context itself asserts that the server ends within two seconds.
        ending = asyncio.gather(*polls)
    assert await ending == [None] * 5


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint)
        first = await agent.register()
        await endpoint.call("RegisterTaskDefinition", **definition())
        (task,) = (await endpoint.call("RunTask", taskDefinition="web"))["tasks"]
        await agent.poll(after=0)
    async with control_endpoint(tmp_path) as endpoint:
        after = ScriptedAgent(endpoint)
        after.arn, after.generation = agent.arn, agent.generation
        after.revision = agent.revision
        # Numbers of before the restart mean nothing: the store may be an older copy.
        status, _ = await after.send(
            "GET", f"/v1/instances/{after.id}/assignments?after={after.revision}"
        )
        assert status == 410
        full = await after.poll(after=0)
        assert full is not None
        assert [t.task_arn for t in full.tasks] == [task["taskArn"]]
        again = await after.register(client_token=agent.info["client_token"])
        assert (again.instance_arn, again.control_id) == (first.instance_arn, first.control_id)


async def test_second_process_on_the_same_store_is_refused(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path):
        with pytest.raises(StoreFailure):
            await serve(
                ControlSettings(data_dir=tmp_path, listen="127.0.0.1:0"),
                ready=lambda _host, _port: None,
                stop=asyncio.Event(),
            )


async def test_warns_off_the_loopback(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with control_endpoint(tmp_path / "a", listen="0.0.0.0:0"):
            pass
        async with control_endpoint(tmp_path / "b"):
            pass
        async with control_endpoint(tmp_path / "c", listen="0.0.0.0:0", keys_file=tmp_path / "k"):
            pass
        async with control_endpoint(tmp_path / "d", keys_file=tmp_path / "k"):
            pass
    warnings = [log["event"] for log in logs if log["log_level"] == "warning"]
    assert [",".join(text.split(",")[:2]) for text in warnings] == [
        "open: anyone who can reach this port, from the network",
        "open: anyone who can reach this port, as any user of this machine",
        (
            "operators are served without TLS outside the loopback: requests and responses, "
            "including secrets of tasks"
        ),
    ]


async def test_warns_of_agents_let_in_from_everywhere(tmp_path: Path) -> None:
    tokens, keys = tmp_path / "tokens", tmp_path / "keys"
    with structlog.testing.capture_logs() as logs:
        async with control_endpoint(tmp_path / "1", keys_file=keys, agent_listen=("0.0.0.0:0",)):
            pass
        async with control_endpoint(tmp_path / "2", keys_file=keys, agent_listen=("127.0.0.1:0",)):
            pass
        async with control_endpoint(
            tmp_path / "3",
            keys_file=keys,
            agent_listen=("127.0.0.1:0", "0.0.0.0:0"),
            token_file=tokens,
        ):
            pass
    told = [log["event"].partition(":")[0] for log in logs if log["log_level"] == "warning"]
    assert told == [
        "agents are served without TLS outside the loopback",
        "agents are admitted without a token outside the loopback",
        "agents are served without TLS outside the loopback",
    ]


async def test_an_address_in_use_is_named_with_its_option(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path / "1") as endpoint:
        taken = endpoint.url.removeprefix("http://")
        for option, listen, agents in (
            ("--listen", taken, ()),
            ("--agent-listen", "127.0.0.1:0", (taken,)),
        ):
            settings = ControlSettings(data_dir=tmp_path / "2", listen=listen, agent_listen=agents)
            with pytest.raises(ListenFailure, match=taken) as caught:
                await serve(settings, ready=lambda _host, _port: None, stop=asyncio.Event())
            assert caught.value.option == option


def test_listen() -> None:
    assert parse_listen("127.0.0.1:6820") == ("127.0.0.1", 6820)
    assert parse_listen("[::1]:1") == ("::1", 1)
    assert parse_listen(":0") == ("127.0.0.1", 0)
    for text in ("", "6820", "::1:5", "host:99999", "host:x"):
        with pytest.raises(ConfigError):
            parse_listen(text)


async def test_bad_tls_files(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("nonsense")
    for settings in (
        ControlSettings(data_dir=tmp_path, tls_key=key),
        ControlSettings(data_dir=tmp_path, tls_key=key, tls_certificate=key),
    ):
        with pytest.raises((ConfigError, ssl.SSLError)):
            await serve(settings, ready=lambda _host, _port: None, stop=asyncio.Event())
