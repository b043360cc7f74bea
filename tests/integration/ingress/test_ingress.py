"""A real HAProxy, a real control and real targets on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from agent.ingress.service import IngressSettings, serve
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

LIMIT_S = 60.0
PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROGRAM is None, reason="HAProxy is not installed"),
]


class Backend:
    """A web server that tells its name, slowly if asked to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_healthy = True
        self.busy = 0
        self.port = 0

    async def __aenter__(self) -> Backend:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.is_healthy else 503)

    async def _answer(self, request: web.Request) -> web.Response:
        self.busy += 1
        try:
            await asyncio.sleep(float(request.query.get("takes", "0")))
            return web.Response(text=self.name)
        finally:
            self.busy -= 1


class Site:
    """A load balancer with a listener, and what one asks of it."""

    def __init__(self, elb: AwsClient, session: aiohttp.ClientSession, port: int) -> None:
        self.elb = elb
        self.session = session
        self.port = port

    async def group(self, name: str, protocol: str = "HTTP") -> str:
        check: dict[str, Any] = {"HealthCheckPath": "/health"} if protocol == "HTTP" else {}
        made = await self.elb.call(
            "create_target_group",
            Name=name,
            Protocol=protocol,
            Port=80,
            TargetType="ip",
            HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=2,
            HealthyThresholdCount=2,
            UnhealthyThresholdCount=2,
            **check,
        )
        arn: str = made["TargetGroups"][0]["TargetGroupArn"]
        return arn

    async def register(self, group: str, *backends: Backend) -> None:
        targets = [{"Id": "127.0.0.1", "Port": each.port} for each in backends]
        await self.elb.call("register_targets", TargetGroupArn=group, Targets=targets)

    async def deregister(self, group: str, backend: Backend) -> None:
        targets = [{"Id": "127.0.0.1", "Port": backend.port}]
        await self.elb.call("deregister_targets", TargetGroupArn=group, Targets=targets)

    async def states(self, group: str) -> dict[int, str]:
        told = await self.elb.call("describe_target_health", TargetGroupArn=group)
        return {
            each["Target"]["Port"]: each["TargetHealth"]["State"]
            for each in told["TargetHealthDescriptions"]
        }

    async def is_state(self, group: str, state: str, *backends: Backend) -> bool:
        found = await self.states(group)
        return all(found.get(each.port) == state for each in backends)

    async def get(self, path: str = "/", **headers: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.get(url, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text()


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await true():  # noqa: ASYNC110 - of others
            await asyncio.sleep(0.05)


async def anew(answers: Counter[tuple[int, str]]) -> None:
    """Wait for some answers that come from now on."""
    answers.clear()

    async def are_some() -> bool:
        return answers.total() >= 20

    await eventually(are_some)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def ingress(url: str, run_dir: Path) -> AsyncIterator[None]:
    stop = asyncio.Event()
    assert PROGRAM is not None
    settings = IngressSettings(
        endpoint=url, haproxy=Path(PROGRAM), run_dir=run_dir, address="127.0.0.1", stop_s=2.0
    )
    running = asyncio.create_task(serve(settings, stop=stop, ready=lambda: None))
    try:
        yield
    finally:
        stop.set()
        await running


def masters(run_dir: Path) -> Iterator[int]:
    """Yield the process ids of the HAProxy that has its configuration there, the master first."""
    for entry in sorted(int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{entry}/cmdline").read_bytes()
            if str(run_dir / "haproxy.cfg").encode() in words and b"-W" in words:
                yield entry


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """Short, because a socket's path may not be long."""
    with tempfile.TemporaryDirectory(prefix="ing") as place:
        Path(place).chmod(0o711)
        yield Path(place)


async def test_requests_go_where_control_says_and_none_is_lost(
    tmp_path: Path, run_dir: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(control_endpoint(tmp_path))
        elb = await AwsClient.of(control, "elbv2")
        stack.callback(elb.close)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        blue, blue2, green = [
            await stack.enter_async_context(Backend(name)) for name in ("blue", "blue2", "green")
        ]
        site = Site(elb, session, free_port())
        made = await elb.call("create_load_balancer", Name="web", Subnets=["subnet-1"])
        balancer = made["LoadBalancers"][0]["LoadBalancerArn"]
        first, second = await site.group("first"), await site.group("second")
        made = await elb.call(
            "create_listener",
            LoadBalancerArn=balancer,
            Protocol="HTTP",
            Port=site.port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": first}],
        )
        listener = made["Listeners"][0]["ListenerArn"]
        await site.register(first, blue, blue2)
        await site.register(second, green)
        assert await site.is_state(first, "initial", blue, blue2)
        await stack.enter_async_context(ingress(control.url, run_dir))

        await eventually(lambda: site.is_state(first, "healthy", blue, blue2))
        assert {(await site.get())[1] for _ in range(10)} == {"blue", "blue2"}

        await _rules(site, listener, second, green)
        await _weights(site, listener, first, second, green)
        await _draining(site, first, blue, blue2)
        await _health(site, first, blue)
        await _killed(site, run_dir, first, blue)
        await _tcp(site, blue)

    assert not list(masters(run_dir))


async def _rules(site: Site, listener: str, second: str, green: Backend) -> None:
    conditions = [
        {"Field": "path-pattern", "Values": ["/shop/*"]},
        {"Field": "host-header", "Values": ["*.example.com"]},
    ]
    for number, (condition, action) in enumerate(
        [
            (conditions, {"Type": "forward", "TargetGroupArn": second}),
            (
                [
                    {
                        "Field": "http-header",
                        "HttpHeaderConfig": {"HttpHeaderName": "X-Kind", "Values": ["te?t"]},
                    }
                ],
                {
                    "Type": "fixed-response",
                    "FixedResponseConfig": {
                        "StatusCode": "418",
                        "ContentType": "text/plain",
                        "MessageBody": 'it\'s "#1" $HOME %[src]\\n',
                    },
                },
            ),
            (
                [{"Field": "path-pattern", "Values": ["/old"]}],
                {
                    "Type": "redirect",
                    "RedirectConfig": {
                        "StatusCode": "HTTP_301",
                        "Protocol": "HTTPS",
                        "Port": "443",
                    },
                },
            ),
        ]
    ):
        await site.elb.call(
            "create_rule",
            ListenerArn=listener,
            Priority=number + 1,
            Conditions=condition,
            Actions=[action],
        )
    await eventually(lambda: site.is_state(second, "healthy", green))

    async def redirects() -> bool:
        return (await site.get("/old"))[0] == 301

    await eventually(redirects)
    assert await site.get("/shop/1", Host="www.example.com:8080") == (200, "green")
    assert (await site.get("/shop/1"))[1] != "green"
    assert (await site.get("/shopping", Host="www.example.com"))[1] != "green"
    kind = {"X-Kind": "test"}
    assert await site.get("/", **kind) == (418, 'it\'s "#1" $HOME %[src]\\n')
    url = f"http://127.0.0.1:{site.port}/old?a=b%20c"
    async with site.session.get(url, allow_redirects=False) as answer:
        assert answer.headers["Location"] == "https://127.0.0.1/old?a=b%20c"


async def _weights(site: Site, listener: str, first: str, second: str, green: Backend) -> None:
    """Weights change, and the requests that run meanwhile all succeed."""
    async with lasting_load(site) as answers:
        for weights, expected in (((1, 1), None), ((0, 1), "green"), ((1, 0), "blue")):
            groups = [
                {"TargetGroupArn": arn, "Weight": weight}
                for arn, weight in zip((first, second), weights, strict=True)
            ]
            action = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
            await site.elb.call("modify_listener", ListenerArn=listener, DefaultActions=[action])

            async def arrived(expected: str | None = expected) -> bool:
                await anew(answers)
                names = {name.removesuffix("2") for _, name in answers}
                return names == ({expected} if expected else {"blue", "green"})

            await eventually(arrived)


@contextlib.asynccontextmanager
async def lasting_load(site: Site) -> AsyncIterator[Counter[tuple[int, str]]]:
    """Ask all the time by several connections; every answer must be a good one."""
    answers: Counter[tuple[int, str]] = Counter()

    async def ask() -> None:
        while True:
            answer = await site.get("/?takes=0.02")
            assert answer[0] == 200, answer
            answers[answer] += 1

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask()) for _ in range(6)]
        yield answers
        for task in tasks:
            task.cancel()


async def _draining(site: Site, first: str, blue: Backend, blue2: Backend) -> None:
    """A target leaves while it answers: what runs is finished, and nothing new comes."""
    async with lasting_load(site) as answers:
        slow = [asyncio.create_task(site.get("/?takes=2")) for _ in range(4)]

        async def is_busy() -> bool:
            return blue2.busy > 1

        await eventually(is_busy)
        await site.deregister(first, blue2)
        assert {answer[0] for answer in await asyncio.gather(*slow)} == {200}

        async def quiet() -> bool:
            await anew(answers)
            return {name for _, name in answers} == {"blue"}

        await eventually(quiet)
        assert (await site.states(first))[blue2.port] == "draining"
        await site.register(first, blue2)
        await eventually(lambda: site.is_state(first, "healthy", blue, blue2))

        async def is_back() -> bool:
            return (200, "blue2") in answers

        await eventually(is_back)
        await site.deregister(first, blue2)


async def _health(site: Site, first: str, blue: Backend) -> None:
    blue.is_healthy = False
    await eventually(lambda: site.is_state(first, "unhealthy", blue))
    told = await site.elb.call("describe_target_health", TargetGroupArn=first)
    reasons = {each["TargetHealth"].get("Reason") for each in told["TargetHealthDescriptions"]}
    assert "Target.ResponseCodeMismatch" in reasons
    assert (await site.get())[0] == 503
    blue.is_healthy = True
    await eventually(lambda: site.is_state(first, "healthy", blue))
    assert await site.get() == (200, "blue")


async def _killed(site: Site, run_dir: Path, first: str, blue: Backend) -> None:
    master = min(masters(run_dir))
    os.kill(master, signal.SIGKILL)

    async def answers() -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            return await site.get() == (200, "blue") and master not in set(masters(run_dir))
        return False

    await eventually(answers)
    assert await site.is_state(first, "healthy", blue)


async def _tcp(site: Site, blue: Backend) -> None:
    port = free_port()
    made = await site.elb.call(
        "create_load_balancer", Name="raw", Type="network", Subnets=["subnet-1"]
    )
    group = await site.group("raw", "TCP")
    await site.register(group, blue)
    await site.elb.call(
        "create_listener",
        LoadBalancerArn=made["LoadBalancers"][0]["LoadBalancerArn"],
        Protocol="TCP",
        Port=port,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )
    await eventually(lambda: site.is_state(group, "healthy", blue))
    other = Site(site.elb, site.session, port)
    assert await other.get() == (200, "blue")
