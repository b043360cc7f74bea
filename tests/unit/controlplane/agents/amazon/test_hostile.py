"""Agents that send anything: they harm nobody, and themselves as little as possible."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.controlplane.agents.amazon import shapes, sockets
from agent.controlplane.agents.amazon.sockets import FrameBudget
from agent.controlplane.agents.bindings import Shown
from agent.controlplane.records import InstanceRecord
from agent.model.resources import HostResources
from agent.throttle import LogThrottle
from tests.unit.controlplane.agents.amazon.raw_agent import RawAgent, attributes, run_task

if TYPE_CHECKING:
    from tests.support.control_endpoint import Endpoint

_KINDS = (
    *("AckRequest", "NackRequest", "HeartbeatAckRequest", "TaskStopVerificationMessage"),
    *("PublishMetricsRequest", "PublishHealthRequest", "PublishInstanceStatusRequest"),
    *("IAMRoleCredentialsAckRequest", "Nonsense"),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)
_members = st.dictionaries(
    st.sampled_from(
        (
            *("messageId", "containerInstance", "cluster", "stopCandidates", "metadata"),
            *("tasks", "taskMetrics", "statuses", "reason", "timestamp"),
        )
    ),
    _json,
)
_envelopes = st.builds(
    lambda kind, message: json.dumps({"type": kind, "message": message}),
    st.sampled_from(_KINDS) | st.text(max_size=9),
    _members | _json,
)


@given(_envelopes | st.text(max_size=200) | st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_frame_is_read_or_refused(frame: str | bytes) -> None:
    with contextlib.suppress(shapes.FrameError):
        kind, message = shapes.read(frame)
        assert kind in _KINDS
        assert message is not None
    with contextlib.suppress(shapes.FrameError):
        shapes.split_signed(frame if isinstance(frame, str) else frame.decode("latin-1"))


def test_deep_nesting_is_refused() -> None:
    for deep in ("[" * 100_000, '{"type":"AckRequest","message":' + '{"a":' * 50_000):
        with pytest.raises(shapes.FrameError):
            shapes.read(deep)


@given(st.lists(_envelopes | st.text(max_size=50), max_size=8))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_junk_leaves_a_connection_in_use(
    endpoint: Endpoint, agent: RawAgent, frames: list[str]
) -> None:
    assert endpoint.url
    async with agent.acs() as session, agent.tcs() as telemetry:
        for frame in frames:
            await session.ws.send_str(frame)
            await telemetry.ws.send_str(frame)
            await telemetry.ws.send_str(f"Authorization: x\r\n\r\n{frame}")
        await session.ws.send_bytes(b"\x00\xff")
        await session.ws.ping(b"there?")
        await session.ws.pong()
        await session.settled()
        await telemetry.say(
            "PublishMetricsRequest", metadata={"containerInstance": agent.arn, "idle": True}
        )
        await telemetry.hear("AckPublishMetric")


async def test_frames_that_are_too_large_end_the_connection_alone(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    other = RawAgent(endpoint)
    await other.register(attributes=attributes({"name": "rack", "value": "quiet"}))
    with structlog.testing.capture_logs() as logs:
        await _too_large(agent)
    assert not [line for line in logs if line["log_level"] == "error"]
    async with other.acs() as quiet:
        await quiet.settled()
        await _too_large(agent)
        on_quiet = {"type": "memberOf", "expression": "attribute:rack == quiet"}
        (arn,) = await run_task(endpoint, placementConstraints=[on_quiet])
        order = await quiet.hear("PayloadMessage")
        assert order["tasks"][0]["arn"] == arn


async def _too_large(agent: RawAgent) -> None:
    for opened in (agent.acs, agent.tcs):
        async with opened() as session:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                await session.ws.send_str("x" * 10_000_000)
            await session.ended()


async def test_messages_in_the_name_of_others_are_not_taken(
    endpoint: Endpoint, agent: RawAgent
) -> None:
    await run_task(endpoint)
    async with agent.acs() as session:
        order = await session.hear("PayloadMessage")
        await session.ack(order | {"containerInstanceArn": agent.arn[:-1] + "x"})
    async with agent.acs() as session:
        assert len(await session.settled()) == 1


async def test_half_a_frame_holds_nobody_up(endpoint: Endpoint, agent: RawAgent) -> None:
    async with agent.acs() as session:
        connection: Any = session.ws._response.connection
        connection.transport.write(b"\x81\xfe\x40\x00abcd")  # of 16 KiB, nothing but the mask comes
        await session.hear("TaskManifestMessage")
        await run_task(endpoint)
        await session.hear("PayloadMessage")
        # No heartbeat is acknowledged: after some of them the connection is closed.
        await session.ended()


async def test_a_flood_is_read_slowly(
    endpoint: Endpoint, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "BURST_FRAMES", 50.0)
    frame = json.dumps({"type": "HeartbeatAckRequest", "message": {"messageId": "x"}})
    taken = 0
    real = shapes.read

    def counting(given_: str | bytes) -> tuple[str, Any]:
        nonlocal taken
        taken += 1
        return real(given_)

    monkeypatch.setattr(shapes, "read", counting)
    async with agent.acs() as session:
        await session.settled()

        async def flood() -> None:
            while True:
                await session.ws.send_str(frame)
                await asyncio.sleep(0)  # the reader has its turn, however fast this writes

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.7):
                await flood()
        assert 50 <= taken < 250
        assert (await endpoint.call("ListClusters"))["clusterArns"]
        session.ws._response.close()


async def test_an_agent_that_reads_nothing_is_cut_off_as_soon_as_others() -> None:
    """A frame that it does not take may hold the writing side up for half a minute."""
    instance = InstanceRecord(
        id="i1",
        arn="arn",
        cluster="default",
        resources=HostResources(cpu_units=1, memory_mib=1),
        client_token="t",
    )
    socket = sockets.Socket(instance, frame_limit_bytes=1000, shown=Shown())
    heard: list[str] = []
    ended = asyncio.Event()

    async def read() -> None:
        async for frame in socket.frames():
            heard.append(frame)  # noqa: PERF401 - a list made at the end is lost when it is cancelled

    async def write() -> None:
        while socket.ended is None:
            await socket.send("x" * 1_000_000)

    async def serve(request: web.Request) -> web.StreamResponse:
        await socket.open(request)
        await socket.run(read, write)
        ended.set()
        return socket.response

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, shutdown_timeout=1.0)  # as control is served: nobody is cancelled
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        connection: Any = ws._response.connection
        connection.transport.pause_reading()
        await ws.send_str("before")
        await asyncio.sleep(0.5)
        socket.cut_off()
        await ws.send_str("after")
        async with asyncio.timeout(3 * sockets.CLOSE_S):
            await ended.wait()
        connection.transport.abort()
    await runner.cleanup()
    assert heard == ["before"]


def test_a_budget_fills_up_again() -> None:
    now = [0.0]
    budget = FrameBudget(clock=lambda: now[0])
    for _ in range(int(sockets.BURST_FRAMES)):
        assert budget.take(10) == 0
    assert budget.take(10) == pytest.approx(1 / sockets.FRAMES_PER_S)
    assert budget.take(1_600_000) > 0.9
    now[0] = 60.0
    assert budget.take(10) == 0


def test_trouble_is_one_line_in_ten_seconds() -> None:
    now = [0.0]
    troubles = LogThrottle(clock=lambda: now[0])
    with structlog.testing.capture_logs() as logs:
        for second in range(25):
            now[0] = float(second)
            for _ in range(10):
                troubles.note("bad", why="x")
    assert [line["more_before"] for line in logs] == [0, 99, 99]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("PublishHealthRequest", {"metadata": {}, "tasks": [{}] * 101}),
        ("PublishHealthRequest", {"metadata": {}, "tasks": [{"containers": [{}] * 101}]}),
        ("PublishHealthRequest", {"metadata": {}, "tasks": [{"taskArn": "a" * 513}]}),
        ("PublishMetricsRequest", {"metadata": {}, "taskMetrics": [{}] * 310_000}),
        ("TaskStopVerificationMessage", {"stopCandidates": [{}] * 310_000}),
        ("AckRequest", {"messageId": "m" * 257}),
        ("AckRequest", {"containerInstance": "\x1b[2J"}),
    ],
    ids=range(7),
)
def test_a_frame_beyond_its_bounds_is_refused_before_it_is_built(
    kind: str, message: dict[str, Any]
) -> None:
    frame = json.dumps({"type": kind, "message": message}, separators=(",", ":"))
    tracemalloc.start()
    try:
        with pytest.raises(shapes.FrameError, match=kind):
            shapes.read(frame)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The frame as bytes, and once more as its message.
    assert peak_bytes < 3 * len(frame) + 1024 * 1024
