"""Both websockets of the back end, driven by a client that keeps the rules and one that breaks them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.backend import messages
from tests.backend.api import cluster_arn
from tests.backend.backend import KEYS, Backend
from tests.backend.channel import text_frame
from tests.backend.signatures import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.unit.backend.client import Client


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def _there(what: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Run a test's call of the back end; it blocks, and so must not run on the client's loop."""
    return await asyncio.to_thread(what, *args, **named)


async def test_orders_are_acknowledged(
    backend: Backend, client: Client, session: aiohttp.ClientSession
) -> None:
    await _there(client.register)
    async with await client.connect(session, client.acs_url()) as socket:
        order = await _there(
            backend.acs.order, "PayloadMessage", **messages.payload(messages.task())
        )
        got = await socket.receive_json()
        assert got["type"] == "PayloadMessage"
        assert got["message"]["messageId"] == order
        ack = {
            "cluster": got["message"]["clusterArn"],
            "containerInstance": got["message"]["containerInstanceArn"],
            "messageId": order,
        }
        await socket.send_json({"type": "AckRequest", "message": ack})
        await _there(backend.acs.wait_ack, order)
        assert backend.problems() == []
        await socket.send_json({"type": "AckRequest", "message": ack})
        await _there(backend.acs.wait_ack, order, count=2)
        assert "answered 2 times" in "".join(backend.problems())


async def test_heartbeats_are_timed(
    backend: Backend, client: Client, session: aiohttp.ClientSession
) -> None:
    await _there(client.register)
    async with await client.connect(session, client.acs_url()) as socket:
        beat = asyncio.create_task(_there(backend.acs.beat))
        message_id = (await socket.receive_json())["message"]["messageId"]
        await socket.send_json(
            {"type": "HeartbeatAckRequest", "message": {"messageId": message_id}}
        )
        assert 0 < await beat < 5
    assert backend.problems() == []


@pytest.mark.parametrize(
    ("type_", "change", "problem"),
    [
        ("AckRequest", {"cluster": "mine"}, "cluster is 'mine'"),
        ("AckRequest", {"extra": 1}, "fields"),
        ("AckRequest", {"messageId": "unknown"}, "answers no message"),
        ("HeartbeatAckRequest", {}, "fields"),
        ("Surprise", {}, "no message of an agent"),
    ],
)
async def test_wrong_answers_are_noticed(
    backend: Backend,
    client: Client,
    session: aiohttp.ClientSession,
    type_: str,
    change: dict[str, Any],
    problem: str,
) -> None:
    await _there(client.register)
    async with await client.connect(session, client.acs_url()) as socket:
        order = await _there(backend.acs.order, "PayloadMessage", **messages.payload())
        sent = (await socket.receive_json())["message"]
        message = {
            "cluster": sent["clusterArn"],
            "containerInstance": sent["containerInstanceArn"],
            "messageId": order,
            **change,
        }
        await socket.send_json({"type": type_, "message": message})
        await _there(backend.acs.wait_frame, type_)
    assert problem in "".join(backend.problems())


async def test_candidates_are_checked(
    backend: Backend, client: Client, session: aiohttp.ClientSession
) -> None:
    await _there(client.register)
    listed = messages.listed("arn:listed")
    async with await client.connect(session, client.acs_url()) as socket:
        order = await _there(
            backend.acs.order, "TaskManifestMessage", **messages.manifest(listed, timeline=1)
        )
        for arn, expected in (("arn:other", []), ("arn:listed", ["is in the manifest"])):
            candidate = {
                "desiredStatus": "STOPPED",
                "taskArn": arn,
                "taskClusterArn": cluster_arn("default"),
            }
            message = {"messageId": order, "stopCandidates": [candidate]}
            await socket.send_json({"type": "TaskStopVerificationMessage", "message": message})
            await _there(
                backend.acs.wait_frame,
                "TaskStopVerificationMessage",
                count=1 + len(expected),
            )
            found = "".join(backend.problems())
            assert all(e in found for e in expected)
            assert bool(found) == bool(expected)


async def test_upgrades_are_checked(
    backend: Backend, client: Client, session: aiohttp.ClientSession
) -> None:
    await _there(client.register)
    for changes in ({"seqNum": "2"}, {"extra": "x"}, {"sendCredentials": "yes"}):
        async with await client.connect(session, client.acs_url(**changes)):
            pass
    assert len(backend.problems()) == 3
    client.keys = Keys(KEYS.access_key, "another")
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.connect(session, client.acs_url())
    assert "InvalidSignatureException" in backend.problems()[-1]


async def test_upgrades_are_refused_with_any_body(
    backend: Backend, client: Client, session: aiohttp.ClientSession
) -> None:
    await _there(client.register)
    backend.acs.refuse({"InactiveInstanceException": "gone"})
    url = client.acs_url()
    headers = client.sign("GET", url.replace("+", "%20"), b"")
    async with session.get(url, headers=headers) as answer:
        assert answer.status == 400
        assert await answer.json(content_type=None) == {"InactiveInstanceException": "gone"}
    async with await client.connect(session, url):
        await _there(backend.acs.wait_open)
    assert len(backend.journal.connections("acs", refused=True)) == 1


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000])
async def test_closes_with_any_code(
    backend: Backend, client: Client, session: aiohttp.ClientSession, code: int
) -> None:
    await _there(client.register)
    async with await client.connect(session, client.acs_url()) as socket:
        closing = asyncio.create_task(_there(backend.acs.close, code, "enough"))
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, code)
        await closing
        await _there(backend.acs.wait_closed, 1)


async def test_sends_halves_drips_and_drops(
    backend: Backend, client: Client, session: aiohttp.ClientSession
) -> None:
    await _there(client.register)
    frame = text_frame(json.dumps({"type": "X", "message": {"pad": "x" * 200}}))
    async with await client.connect(session, client.acs_url()) as socket:
        await _there(backend.acs.send_raw, frame[:50])
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.05)
    async with await client.connect(session, client.acs_url()) as socket:
        await _there(backend.acs.wait_open, after=1)
        await _there(backend.acs.drip, frame, step=50, pause_s=0.01)
        assert (await socket.receive_json())["type"] == "X"
        large = "x" * (3 << 20)
        await _there(backend.acs.send_text, large)
        assert (await socket.receive_str()) == large
        await _there(backend.acs.drop)
        assert (await socket.receive()).type in (
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.ERROR,
        )
    assert backend.problems() == []


def _metrics(arn: str, **changes: Any) -> dict[str, Any]:
    stats = {"min": 1, "max": 2.5, "sampleCount": 2, "sum": 3.5}
    return {
        "metadata": {
            "cluster": "default",
            "containerInstance": arn,
            "messageId": str(uuid.uuid4()),
            "idle": False,
            "fin": True,
        },
        "taskMetrics": [
            {
                "taskArn": "arn:aws:ecs:us-east-1:1:task/default/1",
                "taskDefinitionFamily": "f",
                "taskDefinitionVersion": "1",
                "containerMetrics": [
                    {"containerName": "app", "cpuStatsSet": stats, "memoryStatsSet": stats}
                ],
            }
        ],
        "timestamp": round(time.time(), 3),
        **changes,
    }


async def test_telemetry_is_verified_and_acknowledged(
    backend: Backend, client: Client, session: aiohttp.ClientSession
) -> None:
    arn = await _there(client.register)
    url = client.tcs_url()
    async with await client.connect(session, url) as socket:
        await socket.send_str(client.frame(url, "PublishMetricsRequest", _metrics(arn)))
        assert (await socket.receive_json())["type"] == "AckPublishMetric"
        backend.tcs.acknowledges = False
        await socket.send_str(client.frame(url, "PublishMetricsRequest", _metrics(arn)))
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.1)
        assert backend.problems() == []
        assert backend.tcs.containers("arn:aws:ecs:us-east-1:1:task/default/1")["app"]
        for text in (
            json.dumps({"type": "PublishMetricsRequest", "message": _metrics(arn)}),
            client.frame(url, "PublishMetricsRequest", _metrics(arn)).replace("2.5", "2.6"),
            client.frame(url, "PublishMetricsRequest", _metrics(arn, timestamp=1)),
        ):
            before = len(backend.problems())
            await socket.send_str(text)
            await _there(backend.journal.wait, lambda n=before: len(backend.problems()) > n)


async def test_telemetry_parts_must_be_finished(
    backend: Backend, client: Client, session: aiohttp.ClientSession
) -> None:
    arn = await _there(client.register)
    url = client.tcs_url()

    def part(message_id: str, *, fin: bool) -> str:
        message = _metrics(arn)
        message["metadata"] |= {"messageId": message_id, "fin": fin}
        return client.frame(url, "PublishMetricsRequest", message)

    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    async with await client.connect(session, url) as socket:
        for text in (part(one, fin=False), part(one, fin=True), part(one, fin=False)):
            await socket.send_str(text)
            await socket.receive()
        assert backend.problems() == []
        await socket.send_str(part(two, fin=True))
        await socket.receive()
    assert "was not finished" in "".join(backend.problems())
