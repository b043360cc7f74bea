"""A real control process under attack: the effect on its known senders, and the cost."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.fleet import Control, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

_ROOT = Path(__file__).parents[2]
_CALL = {
    "X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListClusters",
    "Content-Type": "application/x-amz-json-1.1",
}
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAUSE_S = 0.02


@dataclass
class Noticed:
    """Durations of calls, in seconds, and the calls that failed."""

    times_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        """The median."""
        return statistics.median(self.times_s) * 1000

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        return sorted(self.times_s)[int(len(self.times_s) * 0.99)] * 1000


class AttackedControl:
    """A control endpoint with an address for operators and one for agents."""

    def __init__(self, process: Control, agents_port: int, data: Path) -> None:
        self.process = process
        self.agents_port = agents_port
        self.data = data
        self.noticed: dict[str, Noticed] = {}

    def start(self) -> None:
        """Start it, and read its key and its token."""
        self.process.start()
        self.process.ready()
        parser = configparser.ConfigParser()
        parser.read(self.data / "credentials")
        key = parser["default"]
        self.key = Credentials(key["aws_access_key_id"], key["aws_secret_access_key"])
        lines = (self.data / "agent.tokens").read_text().splitlines()
        self.token = next(line for line in lines if line and not line.startswith("#"))

    def cpu_s(self) -> float:
        """Seconds of CPU used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def memory_mib(self) -> int:
        """Its resident memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found
        return int(found[1]) // 1024

    def descriptors(self) -> int:
        """Number of open descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def log_bytes(self) -> int:
        """Size of its log."""
        return self.process.log.stat().st_size

    async def measure(self, seconds: float) -> dict[str, Noticed]:
        """Return the latencies of an operator and an agent, each call on a new connection.

        A third sender makes its calls on one persistent connection.
        """
        operator, agent, kept = Noticed(), Noticed(), Noticed()
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as fresh,
            aiohttp.ClientSession() as keeping,
        ):
            until = time.monotonic() + seconds
            await asyncio.gather(
                _repeat(until, operator, lambda: self._as_operator(fresh)),
                _repeat(until, agent, lambda: self._as_agent(fresh)),
                _repeat(until, kept, lambda: self._as_operator(keeping)),
            )
        return {"operator": operator, "agent": agent, "kept": kept}

    async def _as_operator(self, session: aiohttp.ClientSession) -> None:
        request = AWSRequest("POST", self.process.url + "/", headers=_CALL, data=b"{}")
        SigV4Auth(self.key, "ecs", "us-east-1").add_auth(request)
        headers = dict(request.headers.items())
        async with session.post(request.url, data=b"{}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    async def _as_agent(self, session: aiohttp.ClientSession) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"http://127.0.0.1:{self.agents_port}/v1/hello"
        async with session.get(url, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()


async def _repeat(until: float, noticed: Noticed, call: Callable[[], Awaitable[None]]) -> None:
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            async with asyncio.timeout(30):
                await call()
        except (aiohttp.ClientError, TimeoutError, AssertionError) as error:
            noticed.failures.append(repr(error))
        else:
            noticed.times_s.append(time.monotonic() - began)
        await asyncio.sleep(_PAUSE_S)


@contextlib.asynccontextmanager
async def attacked_control(
    directory: Path, *options: str, wrapper: Sequence[str] = ()
) -> AsyncIterator[AttackedControl]:
    """Run a control process whose key and token the attackers do not know."""
    port, agents = free_port(), free_port()
    data = directory / "control"
    listen = ["--listen", f"127.0.0.1:{port}", "--agent-listen", f"127.0.0.1:{agents}"]
    process = Control(
        name="control",
        arguments=["control", *listen, "--data-dir", str(data), *options],
        directory=directory,
        wrapper=list(wrapper),
        port=port,
    )
    control = AttackedControl(process, agents, data)
    await asyncio.to_thread(control.start)
    try:
        yield control
    finally:
        await asyncio.to_thread(process.stop)


@contextlib.asynccontextmanager
async def attack(
    kind: str, port: int, senders: int, *, many: bool = False
) -> AsyncIterator[dict[str, Any]]:
    """Attack a port from another process; its counts are in the yielded mapping afterwards."""
    counted: dict[str, Any] = {}
    words = [kind, "127.0.0.1", str(port), str(senders), "many" if many else "one"]
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-m", "tests.support.attackers", *words],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
        yield counted
    finally:
        try:
            out, _ = await asyncio.to_thread(process.communicate, timeout=30)
        finally:
            process.kill()
        counted.update(json.loads(out))
