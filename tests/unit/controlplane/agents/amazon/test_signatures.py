"""Who may speak: signatures made with a token as the secret key, and addresses for agents."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import structlog

from tests.support.control_endpoint import ApiFailure, control_endpoint
from tests.support.fleet import free_port
from tests.unit.controlplane.agents.amazon.raw_agent import (
    Key,
    RawAgent,
    Session,
    attributes,
    run_task,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

ONE = "first-token-0123456789/+~._-=="
TWO = "second-token-0123456789"


def token_file(path: Path, *tokens: str) -> Path:
    path.write_text("".join(f"{token}\n" for token in tokens))
    path.chmod(0o600)
    return path


async def reread(reload: asyncio.Event, path: Path, *tokens: str) -> None:
    """Change the token file and wait until control has read it."""
    token_file(path, *tokens)
    with structlog.testing.capture_logs() as logs:
        reload.set()
        async with asyncio.timeout(5):
            while not any(line["event"] == "token file loaded" for line in logs):  # noqa: ASYNC110 - a log line has no event
                await asyncio.sleep(0.01)


async def test_agents_sign_with_any_token_of_the_file(tmp_path: Path) -> None:
    tokens = token_file(tmp_path / "tokens", ONE, TWO)
    async with control_endpoint(tmp_path / "data", token_file=tokens) as endpoint:
        for token in (ONE, TWO):
            agent = RawAgent(endpoint, key=Key(token, skew_s=800))
            await agent.register()
            async with agent.acs() as session, agent.tcs() as telemetry:
                await session.settled()
                (arn,) = await run_task(endpoint)
                await agent.submit(arn, "STOPPED", reason="ünïcode ☃")
                await telemetry.say(
                    "PublishMetricsRequest",
                    metadata={"containerInstance": agent.arn, "idle": True},
                )
                await telemetry.hear("AckPublishMetric")


@pytest.mark.parametrize(
    ("key", "name", "text"),
    [
        (None, "MissingAuthenticationTokenException", "AWS_SECRET_ACCESS_KEY"),
        (Key("not-a-token-0123456789"), "InvalidSignatureException", "does not match"),
        (Key(ONE, skew_s=-1000), "InvalidSignatureException", "Signature expired"),
        (Key(ONE, skew_s=+1000), "InvalidSignatureException", "not yet current"),
    ],
)
async def test_others_are_refused(tmp_path: Path, key: Key | None, name: str, text: str) -> None:
    tokens = token_file(tmp_path / "tokens", ONE)
    async with control_endpoint(tmp_path / "data", token_file=tokens) as endpoint:
        stranger = RawAgent(endpoint, key=key)
        for operation in ("RegisterContainerInstance", "DiscoverPollEndpoint"):
            with pytest.raises(ApiFailure) as caught:
                await stranger.call(operation)
            assert (caught.value.status, caught.value.name) == (400, name)
            assert text in caught.value.message
            assert ONE not in caught.value.message
        for path in ("/acs/ws", "/tcs/ws"):
            status, body = await stranger.refusal(path, containerInstanceArn="a")
            assert status == 403
            ((kind, why),) = body.items()
            is_about_time = "Signature" in text or "current" in text
            assert kind == (name if is_about_time else "AccessDeniedException")
            assert text in why
        # Operators are asked for nothing.
        await endpoint.call("ListClusters")


async def test_broken_signatures(tmp_path: Path) -> None:
    tokens = token_file(tmp_path / "tokens", ONE)
    async with control_endpoint(tmp_path / "data", token_file=tokens) as endpoint:
        good = Key(ONE).headers("POST", f"{endpoint.url}/", b"{}", _headers())

        async def tried(**changed: Any) -> str:
            headers = good | {k.replace("_", "-"): v for k, v in changed.items()}
            body = headers.pop("body", b"{}")
            async with endpoint.session.post(
                f"{endpoint.url}/", data=body, headers=headers
            ) as answer:
                if answer.status == 200:
                    return ""
                assert answer.status == 400
                return str((await answer.json(content_type=None))["__type"])

        assert await tried() == ""
        signed = good["Authorization"]
        assert await tried(body=b'{"cluster":"x"}') == "InvalidSignatureException"
        other = _headers()["X-Amz-Target"].replace("DiscoverPollEndpoint", "SubmitTaskStateChange")
        assert await tried(X_Amz_Target=other) == "InvalidSignatureException"
        assert await tried(X_Amz_Date="tomorrow") == "IncompleteSignatureException"
        assert await tried(X_Amz_Date="20261399T000000Z") == "IncompleteSignatureException"
        assert await tried(X_Amz_Content_SHA256="0" * 64) == "InvalidSignatureException"
        for broken in (
            "Bearer " + ONE,
            "AWS4-HMAC-SHA256",
            signed.replace("/ecs/", "/sqs/"),
            signed.replace("host;", ""),
            signed.replace("aws4_request", "aws5_request"),
            signed.replace("Signature=", "Signature=zz"),
            "AWS4-HMAC-SHA256 " + "x" * 4000,
        ):
            assert await tried(Authorization=broken) == "IncompleteSignatureException", broken


def _headers() -> dict[str, str]:
    return {
        "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint",
        "Content-Type": "application/x-amz-json-1.1",
    }


async def test_an_address_for_agents_takes_their_calls_alone(tmp_path: Path) -> None:
    tokens = token_file(tmp_path / "tokens", ONE)
    port = free_port()
    async with control_endpoint(
        tmp_path / "data", token_file=tokens, agent_listen=(f"127.0.0.1:{port}",)
    ) as endpoint:
        agent = RawAgent(endpoint, url=f"http://127.0.0.1:{port}", key=Key(ONE))
        await agent.call("CreateCluster", clusterName="default")
        await agent.register()
        assert (await agent.endpoints())["endpoint"] == f"http://127.0.0.1:{port}/acs/"
        async with agent.acs() as session:
            await session.settled()
            (arn,) = await run_task(endpoint)
            await session.ack(await session.hear("PayloadMessage"))
        await agent.submit(arn, "RUNNING")
        assert await agent.call("ListTagsForResource", resourceArn=arn) == {"tags": []}
        await agent.call(
            "UpdateContainerInstancesState",
            cluster="default",
            containerInstances=[agent.arn],
            status="DRAINING",
        )
        refused: list[tuple[str, dict[str, Any]]] = [
            ("ListClusters", {}),
            ("RunTask", {"taskDefinition": "web"}),
            ("NoSuchThing", {}),
            ("CreateCluster", {"clusterName": "other"}),
            (
                "UpdateContainerInstancesState",
                {"containerInstances": [agent.arn], "status": "ACTIVE"},
            ),
            (
                "UpdateContainerInstancesState",
                {"containerInstances": [agent.arn, "x"], "status": "DRAINING"},
            ),
        ]
        for operation, request in refused:
            with pytest.raises(ApiFailure) as caught:
                await agent.call(operation, **request)
            assert (caught.value.status, caught.value.name) == (404, "NotServedHere"), operation
        stranger = RawAgent(endpoint, url=f"http://127.0.0.1:{port}")
        with pytest.raises(ApiFailure, match="MissingAuthenticationToken"):
            await stranger.call("ListTagsForResource", resourceArn=arn)


async def test_a_token_that_is_taken_out_closes_its_websockets(tmp_path: Path) -> None:
    tokens = token_file(tmp_path / "tokens", ONE, TWO)
    reload = asyncio.Event()
    async with (
        control_endpoint(tmp_path / "data", token_file=tokens, reload=reload) as endpoint,
        contextlib.AsyncExitStack() as stack,
    ):
        opened: dict[str, tuple[Session, Session]] = {}
        agents = {token: RawAgent(endpoint, key=Key(token)) for token in (ONE, TWO)}
        for token, agent in agents.items():
            await agent.register(attributes=attributes({"name": "token", "value": token[:5]}))
            acs = await stack.enter_async_context(agent.acs())
            await acs.settled()
            opened[token] = (acs, await stack.enter_async_context(agent.tcs()))
        await reread(reload, tokens, TWO)
        for session in opened[ONE]:
            async with asyncio.timeout(1):
                frame = await session.ws.receive()
            assert frame.type is aiohttp.WSMsgType.CLOSE
            # After this code an agent comes back at once, with the token that it has by now.
            assert (frame.data, frame.extra) == (
                1001,
                "its token is no longer in the token file",
            )
        status, body = await agents[ONE].refusal("/acs/ws", containerInstanceArn=agents[ONE].arn)
        assert (status, list(body)) == (403, ["AccessDeniedException"])
        acs, tcs = opened[TWO]
        there = {"type": "memberOf", "expression": f"attribute:token == {TWO[:5]}"}
        await run_task(endpoint, placementConstraints=[there])
        await acs.hear("PayloadMessage")
        await tcs.say(
            "PublishMetricsRequest",
            metadata={"containerInstance": agents[TWO].arn, "idle": True},
        )
        await tcs.hear("AckPublishMetric")


async def test_without_a_token_file_nothing_is_verified(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    async with agent.acs() as session:
        await session.settled()
    stranger = RawAgent(endpoint, key=Key("whatever", skew_s=9999))
    await stranger.register()
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with endpoint.session.ws_connect(f"{endpoint.url}/acs/ws"):
            pass


@pytest.mark.parametrize("line", ["POST / HTTP/1.1", "GET /acs/ws HTTP/1.1"])
async def test_bytes_that_are_no_text_are_refused_and_not_logged_as_a_failure(
    tmp_path: Path, line: str
) -> None:
    tokens = token_file(tmp_path / "tokens", ONE)
    async with control_endpoint(tmp_path / "data", token_file=tokens) as endpoint:
        own = Key(ONE).headers("POST", f"{endpoint.url}/", b"", _headers())
        own["Authorization"] = own["Authorization"].replace("host;", "a;host;")
        more = {"Host": "127.0.0.1", "Connection": "Upgrade", "Upgrade": "websocket", "a": "\xff"}
        more |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "A" * 22 + "=="}
        head = [line, *(f"{name}: {value}" for name, value in (own | more).items()), "", ""]
        with structlog.testing.capture_logs() as logs:
            answer = await _said(endpoint, "\r\n".join(head).encode("latin-1"))
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 403 "))
        assert b"cannot be signed" in answer
        assert not [entry for entry in logs if "exc_info" in entry]


async def _said(endpoint: Endpoint, sent: bytes) -> bytes:
    host, port = endpoint.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(20):
            writer.write(sent)
            return await reader.read()
    finally:
        writer.close()
