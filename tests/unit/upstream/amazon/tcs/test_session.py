"""The telemetry session against a websocket server on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import WSMsgType, web
from structlog.testing import capture_logs
from yarl import URL

from agent.aws.clock import AwsClock
from agent.aws.signing import Signer
from agent.errors import AwsUnavailable, CredentialsMissing
from agent.model.metrics import ContainerSample, HostSample, MetricsBatch, TaskSample
from agent.model.telemetry import ContainerFacts, TaskFacts
from agent.upstream.amazon.registration import Instance
from agent.upstream.amazon.tcs import session as tcs_session
from agent.upstream.amazon.tcs.session import TcsSession, TcsSettings
from agent.upstream.amazon.websocket import Dialer, SocketLimits
from tests.support.fake_aws import FakeChain, FakeHttp
from tests.support.ws_server import Peer, WsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.upstream import protocol

ARN = "arn:aws:ecs:us-east-1:123456789012:container-instance/default/0123456789abcdef"
LIMITS = SocketLimits(
    connect_s=1.0, handshake_s=1.0, read_s=5.0, write_s=5.0, close_s=0.3, frame_bytes=1024 * 1024
)
QUICK = TcsSettings(
    agent_version="1.2.3",
    agent_hash="abcdef0",
    docker_version="20.10.24",
    publish_s=0.05,
    cpus=2,
    backoff_first_s=0.02,
    backoff_limit_s=0.1,
)


class TaskHost:
    """Runs what the test says."""

    def __init__(self) -> None:
        self.engine_up = True
        self.tasks: list[TaskFacts] = []

    def facts(self) -> list[TaskFacts]:
        return self.tasks

    def wanted(self, control_id: str) -> list[str]:
        raise NotImplementedError

    def knows(self, task_arn: str) -> bool:
        raise NotImplementedError

    def is_over(self, task_arn: str) -> bool:
        raise NotImplementedError

    def listed(self) -> None:
        raise NotImplementedError


class Addresses:
    def __init__(self, url: str) -> None:
        self.url = url
        self.trouble: Exception | None = None

    async def tcs(self, arn: str) -> str:
        assert arn == ARN
        if self.trouble is not None:
            raise self.trouble
        return self.url


class Registration:
    def __init__(self) -> None:
        self.known = asyncio.Event()
        self.known.set()

    async def instance(self) -> Instance:
        await self.known.wait()
        return Instance(arn=ARN, cluster="my cluster")


class Kit:
    """A session, what it needs, and everything it sent to a server that listens."""

    def __init__(self, server: WsServer, http: Any) -> None:
        self.server = server
        self.host = TaskHost()
        self.chain = FakeChain()
        self.registration = Registration()
        self.addresses = Addresses(server.url)
        self.signer = Signer("us-east-1", "ecs", AwsClock())
        self.frames: list[bytes] = []
        self.peers: list[Peer] = []
        server.plays = [self.listen]
        self._http = http
        self.session: TcsSession

    async def listen(self, peer: Peer) -> None:
        """Take frames until the agent ends the connection."""
        self.peers.append(peer)
        while (got := await peer.socket.receive()).type is WSMsgType.TEXT:
            self.frames.append(got.data.encode())

    @contextlib.asynccontextmanager
    async def running(
        self, settings: TcsSettings = QUICK, limits: SocketLimits = LIMITS
    ) -> AsyncIterator[TcsSession]:
        chain: Any = self.chain
        host: protocol.TaskHost = self.host
        self.session = TcsSession(
            settings,
            Dialer(self._http, chain, self.signer, limits),
            chain,
            self.signer,
            self.registration,
            self.addresses,
            host,
        )
        task = asyncio.create_task(self.session.run())
        try:
            yield self.session
            if task.done():
                await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def run_a_task(self, *, health: bool = False, origin: str = ARN) -> None:
        one = ContainerFacts(name="app", runtime_id="r", running=True, reports_health=health)
        self.host.tasks = [
            TaskFacts(arn="t1", origin=origin, family="web", revision="3", containers=(one,))
        ]

    def sample(self, cpu: float | None = 100.0, memory: int = 1 << 20) -> None:
        used = ContainerSample(name="app", runtime_id="r", cpu_percent=cpu, memory_bytes=memory)
        task = TaskSample(task_arn="t1", containers=[used])
        self.session.offer(MetricsBatch(host=HostSample(at=1.0), tasks=[task]))

    def told(self, kind: str) -> list[Any]:
        """Every message of this type so far."""
        found = []
        for frame in self.frames:
            _, _, body = frame.partition(b"\r\n\r\n")
            envelope = msgspec.json.decode(body)
            if envelope["type"] == f"{kind}Request":
                found.append(envelope["message"])
        return found

    def figures(self) -> list[Any]:
        return [told for told in self.told("PublishMetrics") if not told["metadata"]["idle"]]


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(8):
        while not what():  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.005)


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    async with WsServer().running() as server, FakeHttp.opened() as http:
        yield Kit(server, http)


async def test_begins_at_once_with_the_right_url(kit: Kit) -> None:
    slow = TcsSettings(agent_version="1.2.3", agent_hash="abc", docker_version="20.10.24")
    async with kit.running(slow) as session:
        await until(lambda: len(kit.frames) == 2)
        assert session.connected
        assert session.error == ""
    assert dict(kit.server.requests[0].query) == {
        "agentHash": "abc",
        "agentVersion": "1.2.3",
        "cluster": "my cluster",
        "containerInstance": ARN,
        "dockerVersion": "20.10.24",
    }
    (idle,) = kit.told("PublishMetrics")
    assert idle["metadata"]["idle"]
    (status,) = kit.told("PublishInstanceStatus")
    assert status["statuses"][0]["status"] == "INITIALIZING"


async def test_frames_are_signed(kit: Kit) -> None:
    async with kit.running():
        await until(lambda: kit.frames)
    frame = kit.frames[0]
    head, _, body = frame.partition(b"\r\n\r\n")
    lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    assert list(lines) == sorted(lines)
    assert set(lines) == {"Authorization", "Host", "X-Amz-Date", "X-Amz-Security-Token"}
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in lines["Authorization"]
    # What was signed is the URL as the server got it, and exactly this body.
    request = kit.server.requests[0]
    signed_at = datetime.strptime(lines["X-Amz-Date"], "%Y%m%dT%H%M%S%z").timestamp()
    signer = Signer("us-east-1", "ecs", AwsClock(lambda: signed_at))
    url = URL(f"http://{request.host}{request.raw_path}", encoded=True)
    assert signer.frame(await kit.chain.keys(), url, body) == frame


async def test_figures_and_health(kit: Kit) -> None:
    kit.run_a_task(health=True)
    async with kit.running():
        kit.sample(cpu=None)
        kit.sample(cpu=100.0, memory=5 << 20)
        await until(lambda: kit.figures() and kit.told("PublishHealth"))
        first = kit.figures()[0]
        # Nothing new: neither figures nor a word about being idle.
        count = len(kit.told("PublishMetrics"))
        await until(lambda: len(kit.told("PublishHealth")) > 3)
        assert len(kit.told("PublishMetrics")) == count
    (container,) = first["taskMetrics"][0]["containerMetrics"]
    assert container["cpuStatsSet"] == {"min": 50.0, "max": 50.0, "sampleCount": 1, "sum": 50.0}
    assert container["memoryStatsSet"]["max"] == 5
    assert first["metadata"]["containerInstance"] == ARN


async def test_nothing_is_told_of_tasks_that_another_control_ordered(kit: Kit) -> None:
    kit.run_a_task(health=True, origin="another control")
    async with kit.running():
        for _ in range(3):
            kit.sample()
        await until(lambda: len(kit.told("PublishMetrics")) > 3)
        assert not kit.figures()
        assert not kit.told("PublishHealth")


async def test_each_heartbeat_of_acs_is_told_once(kit: Kit) -> None:
    def statuses() -> list[str]:
        return [told["statuses"][0]["status"] for told in kit.told("PublishInstanceStatus")]

    async with kit.running() as session:
        await until(lambda: len(kit.told("PublishMetrics")) > 3)
        assert statuses() == ["INITIALIZING"]
        session.heartbeat()
        await until(lambda: len(statuses()) == 2)
        kit.host.engine_up = False
        session.heartbeat()
        await until(lambda: statuses() == ["INITIALIZING", "OK", "IMPAIRED"])


async def test_without_figures_it_says_idle_and_tells_of_health(kit: Kit) -> None:
    kit.run_a_task(health=True)
    settings = msgspec.structs.replace(QUICK, metrics=False)
    async with kit.running(settings):
        for _ in range(3):
            kit.sample()
        await until(lambda: len(kit.told("PublishHealth")) > 2)
        assert kit.figures() == []
        assert kit.told("PublishMetrics")


async def test_without_both_there_is_no_session(kit: Kit) -> None:
    settings = msgspec.structs.replace(QUICK, metrics=False, health=False)
    async with kit.running(settings) as session:
        await asyncio.sleep(0.1)
        assert not session.connected
    assert kit.server.requests == []


async def test_waits_for_the_registration(kit: Kit) -> None:
    kit.registration.known.clear()
    async with kit.running():
        await asyncio.sleep(0.1)
        assert kit.server.requests == []
        kit.registration.known.set()
        await until(lambda: kit.frames)


async def test_what_waited_through_an_outage_arrives_in_order(kit: Kit) -> None:
    kit.run_a_task()
    kit.addresses.trouble = AwsUnavailable("no answer")
    async with kit.running() as session:
        for number in range(1, 6):
            kit.sample(memory=number << 20)
            kit.sample(memory=number << 20)
            await until(lambda: len(session._outgoing.metrics) >= number)  # noqa: B023
        assert session.error == "no answer"
        kit.addresses.trouble = None
        await until(lambda: len(kit.figures()) >= 5)
    told = [f["taskMetrics"][0]["containerMetrics"][0]["memoryStatsSet"] for f in kit.figures()]
    assert [one["max"] for one in told] == sorted(one["max"] for one in told)
    assert sum(one["sampleCount"] for one in told) == 10


async def test_a_long_outage_keeps_the_newest_and_is_seldom_told(kit: Kit) -> None:
    kit.addresses.trouble = AwsUnavailable("no answer")
    settings = msgspec.structs.replace(QUICK, publish_s=0.005)
    with capture_logs() as lines:
        async with kit.running(settings) as session:
            await asyncio.sleep(0.4)
            assert len(session._outgoing.metrics) == 15
    events = [line["event"] for line in lines if line["log_level"] == "warning"]
    assert sorted(events) == [
        "telemetry session closed",
        "too much telemetry waits: dropped the oldest",
    ]


async def test_an_ordinary_end_brings_the_next_session_at_once_but_never_a_loop(kit: Kit) -> None:
    async def close(peer: Peer) -> None:
        await peer.socket.close(code=1000)

    kit.server.plays = [close]
    settings = msgspec.structs.replace(QUICK, backoff_first_s=0.3, backoff_limit_s=0.3)
    async with kit.running(settings):
        await until(lambda: len(kit.server.times) == 4)
    times = kit.server.times
    assert times[1] - times[0] < 0.3
    assert all(later - sooner >= 0.3 for sooner, later in itertools.pairwise(times[1:]))


async def test_a_server_that_comes_and_goes_does_not_fill_the_log(kit: Kit) -> None:
    async def close(peer: Peer) -> None:
        await peer.socket.close(code=1000)

    kit.server.plays = [close]
    with capture_logs() as lines:
        async with kit.running():
            await until(lambda: len(kit.server.times) == 8)
    events = [line["event"] for line in lines if line["event"].startswith("telemetry session")]
    assert events == [
        "telemetry session open",
        "telemetry session closed",
        "telemetry session open",
    ]


async def test_refusals_are_waited_out(kit: Kit) -> None:
    kit.server.refusals = [
        web.Response(status=400, text='{"InactiveInstanceException":"gone"}'),
        web.Response(status=500, text="x" * 100_000),
        web.Response(status=200, text=""),
    ]
    async with kit.running() as session:
        await until(lambda: kit.frames)
        assert session.error == ""
    assert len(kit.server.requests) == 4


async def test_is_closed_when_acs_says_inactive(kit: Kit) -> None:
    async with kit.running() as session:
        await until(lambda: session.connected)
        session.drop()
        await until(lambda: len(kit.server.requests) == 2)
        await until(lambda: session.connected)
        assert kit.peers[0].socket.close_code == 1000


async def test_only_four_messages_are_signs_of_life(kit: Kit) -> None:
    async def chatter(peer: Peer) -> None:
        kinds = ["AckPublishMetric", "AckPublishHealth", "HeartbeatMessage"]
        for kind in [*kinds, "AckPublishInstanceStatus"] * 2:
            await peer.say(kind, message="", healthy=True)
            await asyncio.sleep(0.05)
        for _ in range(200):
            await peer.say("ServerException", message="no")
            await peer.say("Whatever", message="no")
            await asyncio.sleep(0.02)

    kit.server.plays = [chatter, kit.listen]
    settings = msgspec.structs.replace(QUICK, alive_s=0.2, alive_jitter_s=0.0, publish_s=5.0)
    with capture_logs() as lines:
        async with kit.running(settings):
            await until(lambda: len(kit.server.requests) > 1)
    lasted = kit.server.times[1] - kit.server.times[0]
    assert 0.5 < lasted < 3.0
    assert [line["event"] for line in lines].count("telemetry was refused") == 1


async def test_missing_keys_are_waited_for(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcs_session, "_KEYS_AGAIN_S", (0.02, 0.05))
    async with kit.running() as session:
        await until(lambda: kit.frames)
        kit.chain.missing = CredentialsMissing("no keys")
        await until(lambda: len(session._outgoing.metrics) > 3)
        assert session.connected
        kit.chain.missing = None
        await until(lambda: len(session._outgoing.metrics) == 0)
    assert len(kit.server.requests) == 1


async def test_what_the_socket_did_not_take_is_sent_again(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.run_a_task()
    async with kit.running() as session:
        await until(lambda: kit.frames)
        sign = kit.signer.frame
        cuts = 0

        def cut(keys: Any, url: Any, body: bytes) -> bytes:
            nonlocal cuts
            if b"taskMetrics" in body and cuts < 2:
                cuts += 1
                assert session._socket is not None
                session._socket._ended("cut", clean=False)
                session._socket._abort()
            return sign(keys, url, body)

        monkeypatch.setattr(kit.signer, "frame", cut)
        kit.sample()
        kit.sample()
        await until(kit.figures)
    assert cuts == 2
    assert len(kit.figures()) == 1


async def test_garbage_harms_nothing(kit: Kit) -> None:
    async def rubbish(peer: Peer) -> None:
        for raw in (
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"type": 7}',
            b'{"type": null, "message": {}}',
            b'{"type": "AckPublishMetric"}',
            b'{"type": "AckPublishMetric", "message": [1, null]}',
            b'{"type": "HeartbeatMessage", "message": {"healthy": "perhaps"}}',
            b"[" * 50_000,
            b'{"type": "' + b"x" * 100_000 + b'"}',
        ):
            await peer.raw(raw)
        await peer.socket.send_bytes(b"\x00\xff")
        await kit.listen(peer)

    kit.server.plays = [rubbish]
    async with kit.running() as session:
        await until(lambda: len(kit.told("PublishMetrics")) > 3)
        assert session.connected
    assert len(kit.server.requests) == 1


async def test_a_fault_of_ours_does_not_end_the_agent(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    kit.run_a_task()
    async with kit.running() as session:
        await until(lambda: kit.frames)
        with monkeypatch.context() as patch:
            patch.setattr(kit.host, "facts", broken)
            kit.sample()
            await asyncio.sleep(0.2)
        with monkeypatch.context() as patch:
            patch.setattr(kit.signer, "frame", broken)
            kit.host.tasks = []
            await until(lambda: "a bug" in session.error or len(kit.server.requests) > 1)
        count = len(kit.frames)
        await until(lambda: len(kit.frames) > count)
