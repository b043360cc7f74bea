"""The connection of ACS: how it is opened, when it is opened again, and what wears it out."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import WSMsgType, web
from structlog.testing import capture_logs

from agent.errors import AwsUnavailable, CredentialsMissing, StateFailure
from agent.upstream.amazon.websocket import SocketLimits
from tests.support.acs_host import INSTANCE, ORIGIN, SETTINGS, AcsHost, arn, task

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.ws_server import Peer, WsServer

replace = msgspec.structs.replace


async def hold(peer: Peer) -> None:
    """Keep the connection until the agent ends it."""
    while (await peer.socket.receive()).type is WSMsgType.TEXT:
        pass


async def until(condition: Callable[[], object], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what a server saw is not an event
            await asyncio.sleep(0.005)


async def test_the_first_connection_asks_for_credentials_and_later_ones_do_not(
    host: AcsHost, server: WsServer
) -> None:
    async def clean(peer: Peer) -> None:
        await peer.socket.close(code=1000)

    server.plays = [clean, hold]
    async with host.running():
        await until(lambda: len(server.requests) == 2)
    first, second = (dict(request.query) for request in server.requests)
    assert first == {
        "agentHash": "0123abcd",
        "agentVersion": "1.105.1",
        "clusterArn": "c",
        "containerInstanceArn": INSTANCE,
        "dockerVersion": "DockerVersion: 20.10.24",
        "protocolVersion": "2",
        "sendCredentials": "true",
        "seqNum": "1",
    }
    assert second == first | {"sendCredentials": "false"}
    assert list(first) == sorted(first)
    assert server.times[1] - server.times[0] < 0.1


async def test_a_refusal_keeps_asking_for_credentials(host: AcsHost, server: WsServer) -> None:
    server.refusals = [web.Response(status=500, body=b"{}") for _ in range(2)]
    server.plays = [hold]
    async with host.running():
        await until(lambda: host.link.connected)
    assert [r.query["sendCredentials"] for r in server.requests] == ["true"] * 3
    assert all("dockerVersion" in r.query for r in server.requests)


async def test_an_unknown_engine_is_not_named(host: AcsHost, server: WsServer) -> None:
    server.plays = [hold]
    async with host.running(replace(SETTINGS, docker_version="")):
        await until(lambda: server.requests)
    assert "dockerVersion" not in server.requests[0].query


async def test_waits_between_failures_grow(host: AcsHost, server: WsServer) -> None:
    server.refusals = [web.Response(status=503, body=b"busy") for _ in range(99)]
    settings = replace(SETTINGS, backoff_first_s=0.02, backoff_limit_s=0.2)
    async with host.running(settings):
        await until(lambda: len(server.times) >= 8)
    waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    for n, wait_s in enumerate(waits[:7]):
        least_s = min(0.02 * 1.5**n, 0.2)
        assert least_s - 0.002 <= wait_s < least_s * 1.2 + 0.1
    assert "busy" in host.link.error


async def test_a_server_that_ends_each_connection_at_once_is_not_called_in_a_loop(
    host: AcsHost, server: WsServer
) -> None:
    async def clean(peer: Peer) -> None:
        await peer.socket.close(code=1000)

    server.plays = [clean]
    with capture_logs() as lines:
        async with host.running():
            await asyncio.sleep(1.0)
    assert 3 <= len(server.requests) <= 9
    assert len(lines) <= 4


@pytest.mark.parametrize("how", ["cut", "error", "half"])
async def test_a_server_that_breaks_each_connection_at_once_is_not_called_in_a_loop(
    host: AcsHost, server: WsServer, how: str
) -> None:
    async def rude(peer: Peer) -> None:
        if how == "cut":
            peer.cut()
        elif how == "error":
            await peer.socket.close(code=1002)
        else:
            assert peer.request.transport is not None
            peer.request.transport.write(b"\x81\x7e\xff")
            peer.request.transport.close()

    server.plays = [rude]
    with capture_logs() as lines:
        async with host.running(replace(SETTINGS, backoff_limit_s=0.3)):
            await asyncio.sleep(1.0)
    assert 3 <= len(server.requests) <= 12
    assert len(lines) <= 4


async def test_a_connection_that_lasted_is_renewed_at_once_when_it_ends_cleanly(
    host: AcsHost, server: WsServer
) -> None:
    async def lasts(peer: Peer) -> None:
        await asyncio.sleep(0.06)
        await peer.socket.close(code=1000)

    server.plays = [lasts]
    async with host.running(replace(SETTINGS, hasty_s=0.05, hasty_first_s=9.0)):
        await until(lambda: len(server.requests) == 5)


async def test_silence_ends_the_connection_and_only_what_is_understood_counts(
    host: AcsHost, server: WsServer
) -> None:
    async def babble(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            while not peer.socket.closed:
                await peer.say("Unheard", of=1)
                await asyncio.sleep(0.02)

    async def alive(peer: Peer) -> None:
        for _ in range(10):
            await peer.say("HeartbeatMessage", messageId="h")
            await peer.hear()
            await asyncio.sleep(0.05)
        await hold(peer)

    server.plays = [babble, alive, hold]
    settings = replace(SETTINGS, silence_s=0.15, silence_jitter_s=0.05, backoff_limit_s=0.02)
    async with host.running(settings):
        await until(lambda: len(server.requests) == 3)
    assert 0.14 < server.times[1] - server.times[0] < 0.5
    assert server.times[2] - server.times[1] > 0.5
    assert "no message for" in host.link.error or host.link.connected


async def test_an_instance_that_ecs_does_not_know_any_more_waits_long_and_keeps_its_tasks(
    host: AcsHost, server: WsServer
) -> None:
    host.tasks.held = {arn("a"): "RUNNING"}
    server.refusals = [web.Response(status=400, body=b'{"InactiveInstanceException":"gone"}')]
    server.plays = [hold]
    settings = replace(SETTINGS, inactive_wait_s=0.3)
    async with host.running(settings) as session:
        await until(lambda: host.inactive)
        assert "InactiveInstanceException" in host.link.error
        assert not host.link.connected
        assert session.liveness.due > time.monotonic() + 30
        await until(lambda: host.link.next_try)
        assert 0.0 < host.link.next_try - time.time() < 0.3
        await until(lambda: host.link.connected)
        assert not host.link.next_try
    assert server.times[1] - server.times[0] >= 0.3
    assert host.inactive == 1
    assert not host.tasks.taken


@pytest.mark.parametrize(
    "failure", [AwsUnavailable("no way"), StateFailure("no disk"), KeyError("a bug")]
)
async def test_trouble_with_finding_the_endpoint_is_waited_out(
    host: AcsHost, server: WsServer, failure: Exception
) -> None:
    host.endpoint_failure = failure
    server.plays = [hold]
    async with host.running():
        await until(lambda: host.link.error)
        host.endpoint_failure = None
        await until(lambda: host.link.connected)


async def test_missing_keys_are_waited_out(host: AcsHost, server: WsServer) -> None:
    host.chain.missing = CredentialsMissing("no keys")
    server.plays = [hold]
    async with host.running():
        await until(lambda: host.link.error == "no keys")
        host.chain.missing = None
        await until(lambda: host.link.connected)


async def test_an_endpoint_that_is_no_url_is_an_error_like_others(
    host: AcsHost, server: WsServer
) -> None:
    server.url = "https://[::1"
    async with host.running():
        await until(lambda: "not a URL" in host.link.error)


async def test_an_order_is_carried_out_though_its_connection_ended(
    host: AcsHost, server: WsServer
) -> None:
    async def give(peer: Peer) -> None:
        host.tasks.gate.clear()
        await peer.say("PayloadMessage", **ORIGIN, messageId="m-1", tasks=[task("a")])
        await host.tasks.taking.wait()
        await peer.socket.close(code=1000)

    async def again(peer: Peer) -> None:
        host.tasks.gate.set()
        await peer.say("PayloadMessage", **ORIGIN, messageId="m-1", tasks=[task("a")])
        assert (await peer.hear())[0] == "AckRequest"
        await hold(peer)

    server.plays = [give, again]
    async with host.running():
        await until(lambda: len(host.tasks.taken) == 2)
    assert [order.task_arn for order in host.tasks.orders] == [arn("a")] * 2


async def test_what_does_not_fit_is_dropped_and_nothing_overtakes_it(
    host: AcsHost, server: WsServer
) -> None:
    heard: list[str] = []

    async def flood(peer: Peer) -> None:
        host.tasks.gate.clear()
        for n in range(8):
            await peer.say("PayloadMessage", **ORIGIN, messageId=f"m-{n}", tasks=[task(str(n))])
        await peer.say("HeartbeatMessage", messageId="h")
        heard.append((await peer.hear())[0])
        host.tasks.gate.set()
        while not await peer.silence():
            pass
        await peer.say("PayloadMessage", **ORIGIN, messageId="m-3", tasks=[task("3")])
        heard.append((await peer.hear())[1]["messageId"])
        await hold(peer)

    server.plays = [flood]
    async with host.running(replace(SETTINGS, waiting_orders=3)):
        await until(lambda: len(heard) == 2)
    assert heard == ["HeartbeatAckRequest", "m-3"]
    assert [order.task_arn for order in host.tasks.orders] == [arn(n) for n in "0123"]


async def test_a_frame_of_10_mb_is_one_line_and_nothing_else(
    host: AcsHost, server: WsServer
) -> None:
    async def huge(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            await peer.raw(b'{"type":"PayloadMessage","message":"' + b"x" * 10_000_000 + b'"}')
        await hold(peer)

    server.plays = [huge]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with capture_logs() as lines:
        async with host.running(replace(SETTINGS, backoff_limit_s=0.2)):
            await until(lambda: len(server.requests) >= 4)
    told = [line for line in lines if line["log_level"] != "info"]
    assert len(told) == 1
    assert "exceeds limit" in told[0]["error"]
    # In KiB; the server makes the frames in the same process.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120_000


async def test_a_flood_of_unknown_messages_is_one_line_and_little_work(
    host: AcsHost, server: WsServer
) -> None:
    async def flood(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await peer.say("Unheard", of="x" * 50_000)

    server.plays = [flood]
    limits = SocketLimits(burst=100.0, frames_per_s=100.0, close_s=0.1)
    with capture_logs() as lines:
        began = time.process_time()
        async with host.running(limits=limits):
            await asyncio.sleep(1.0)
        spent_s = time.process_time() - began
    assert spent_s < 0.6  # the flooding server included
    assert [line["event"] for line in lines] == ["control connected", "meaningless frames"]


async def test_any_nonsense_in_any_message_is_survived(host: AcsHost, server: WsServer) -> None:
    kinds = [
        "PayloadMessage",
        "IAMRoleCredentialsMessage",
        "HeartbeatMessage",
        "AttachTaskNetworkInterfacesMessage",
        "AttachInstanceNetworkInterfacesMessage",
        "ConfirmAttachmentMessage",
        "TaskManifestMessage",
        "TaskStopVerificationAck",
        "StageUpdateMessage",
        "PerformUpdateMessage",
        "CloseMessage",
    ]
    bodies: list[Any] = [None, 7, "x", [], {}, {"messageId": 7, "tasks": {}}, {"a": [[[]]]}]
    answers: list[str] = []

    async def nonsense(peer: Peer) -> None:
        for kind in kinds:
            for body in bodies:
                await peer.raw(msgspec.json.encode({"type": kind, "message": body}))
            deep = b"[" * 200_000
            await peer.raw(b'{"type":"' + kind.encode() + b'","message":' + deep + b"}")
        await peer.say("PayloadMessage", **ORIGIN, messageId="last", tasks=[])
        while answers[-1:] != ["AckRequest"]:
            answers.append((await peer.hear())[0])
        await hold(peer)

    server.plays = [nonsense]
    with capture_logs() as lines:
        async with host.running():
            await until(lambda: answers[-1:] == ["AckRequest"])
    assert len(server.requests) == 1
    assert not host.tasks.taken
    assert len(lines) <= 5


async def test_a_connection_that_has_reached_its_age_is_replaced_without_a_word(
    host: AcsHost, server: WsServer
) -> None:
    server.plays = [hold]
    limits = SocketLimits(age_s=0.1, age_jitter_s=0.02, close_s=0.1)
    with capture_logs() as lines:
        async with host.running(replace(SETTINGS, hasty_s=0.05), limits):
            await until(lambda: len(server.requests) == 4)
            assert not host.link.error
    assert [line["event"] for line in lines] == ["control connected"]


async def test_cancelling_ends_it_in_any_state(host: AcsHost, server: WsServer) -> None:
    server.plays = [hold]
    for wait_s in (0.0, 0.01, 0.05):
        async with host.running() as session:
            await asyncio.sleep(wait_s)
        assert all(liveness.due == float("inf") for liveness in session.livenesses)
