"""``python -m tests.bench.logs``: what logs cost a control endpoint. Needs neither root nor an engine.

A control of its own takes 10,000 lines a second as agents deliver them (100 streams, gzip, a call a
second for each of ten hosts), then as many as it can until there are so many bytes of lines; then pages
are timed. The sender is this process, so both share the processors.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from tests.support.control_endpoint import CAPABILITIES, Endpoint, ScriptedAgent, definition
from tests.support.fleet import COMMAND, free_port

AWSLOGS = {"com.amazonaws.ecs.capability.logging-driver.awslogs": ""}
GROUP = "/bench/web"
HOSTS = 10
STREAMS = 10
"""Of each host."""
LINES = 100
"""Of a batch: one stream, one second."""
_encode = msgspec.json.Encoder().encode


def main() -> int:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="bench.logs", description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="of 10,000 lines each")
    parser.add_argument("--megabytes", type=int, default=1024, help="of lines, for the pages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ecs-bench-") as directory:
        asyncio.run(_run(Path(directory), options))
    return 0


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Lines:
    """Lines like those of a web server: some 120 bytes, half of them of little use to a compressor."""

    def __init__(self) -> None:
        self._rng = random.Random(1)
        self._words = [f"{self._rng.getrandbits(32):08x}" for _ in range(5000)]

    def some(self, count: int) -> list[str]:
        """Return fresh lines."""
        pick, rng = self._rng.choice, self._rng.random
        return [
            f"2026-11-29T10:00:00.{int(rng() * 1e6):06d}Z INFO request id={pick(self._words)} "
            f"path=/api/{pick(self._words)}/items status=200 took={rng():.4f}s user={pick(self._words)}"
            for _ in range(count)
        ]


async def _run(directory: Path, options: argparse.Namespace) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(str(COMMAND), "control", "--open", "--listen", f"127.0.0.1:{port}"),
        *("--data-dir", str(directory / "control"), "--log-max-size", "20g"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"ECS_LOGLEVEL": "warn"},
    )
    try:
        async with aiohttp.ClientSession() as session:
            endpoint = Endpoint(f"http://127.0.0.1:{port}", session)
            await until_ready(endpoint)
            control = psutil.Process(process.pid)
            hosts = [await host(endpoint) for _ in range(HOSTS)]
            say(f"control before any logs: {_memory(control)}")
            await _steady(control, hosts, options.seconds)
            await _fill(control, hosts, options.megabytes, directory)
            await _pages(endpoint)
    finally:
        process.terminate()
        await process.wait()


async def until_ready(endpoint: Endpoint) -> None:
    """Wait until a control endpoint answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with endpoint.session.get(f"{endpoint.url}/healthz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def host(endpoint: Endpoint) -> ScriptedAgent:
    """Register a host that may deliver lines to ``GROUP``."""
    agent = ScriptedAgent(endpoint, attributes=CAPABILITIES | AWSLOGS)
    await agent.register()
    request = definition()
    request["containerDefinitions"][0]["logConfiguration"] = {
        "logDriver": "awslogs",
        "options": {"awslogs-group": GROUP, "awslogs-region": "us-east-1"},
    }
    await endpoint.call("RegisterTaskDefinition", **request)
    await endpoint.call("StartTask", taskDefinition="web", containerInstances=[agent.arn])
    return agent


async def _steady(control: psutil.Process, hosts: list[ScriptedAgent], seconds: int) -> None:
    lines, took = Lines(), []
    before, began = control.cpu_times(), time.monotonic()

    async def deliver(number: int, agent: ScriptedAgent, second: int) -> None:
        body = _call(agent, number, second, lines)
        await asyncio.sleep(max(0.0, began + second + number / HOSTS - time.monotonic()))
        sent = time.perf_counter()
        await _post(agent, body)
        took.append(time.perf_counter() - sent)

    for second in range(seconds):
        await asyncio.gather(*(deliver(n, agent, second) for n, agent in enumerate(hosts)))
    wall = time.monotonic() - began
    after = control.cpu_times()
    used = after.user + after.system - before.user - before.system
    count = seconds * HOSTS * STREAMS * LINES
    took.sort()
    say(
        f"{count / wall:,.0f} lines/s for {wall:.0f} s: {100 * used / wall:.0f} % of a core, "
        f"{_memory(control)}; call of 1,000 lines {1000 * statistics.median(took):.0f} ms median, "
        f"{1000 * took[int(len(took) * 0.99)]:.0f} ms p99"
    )


async def _fill(
    control: psutil.Process, hosts: list[ScriptedAgent], megabytes: int, directory: Path
) -> None:
    lines = Lines()
    stock = [lines.some(LINES) for _ in range(300)]
    size = sum(len(line) for some in stock for line in some) / len(stock) * STREAMS * HOSTS
    rounds = int(megabytes * 2**20 / size) + 1
    before, began = control.cpu_times(), time.monotonic()
    for turn in range(rounds):
        bodies = [
            _call(agent, number, 10_000 + turn, lines, stock=stock)
            for number, agent in enumerate(hosts)
        ]
        await asyncio.gather(
            *(_post(agent, body) for agent, body in zip(hosts, bodies, strict=True))
        )
    wall = time.monotonic() - began
    after = control.cpu_times()
    used = after.user + after.system - before.user - before.system
    count = rounds * HOSTS * STREAMS * LINES
    files = [path for path in (directory / "control" / "logs").iterdir() if path.is_file()]
    taken = sum(path.stat().st_size for path in files)
    say(
        f"{count:,} lines, {rounds * size / 2**20:.0f} MiB, as fast as it goes: {count / wall:,.0f} "
        f"lines/s, {1e6 * used / count:.1f} µs of control's CPU for each, {_memory(control)}; "
        f"{taken / 2**20:.0f} MiB on disk in {len(files)} files"
    )


async def _pages(endpoint: Endpoint) -> None:
    stream = {"logGroupName": GROUP, "logStreamName": "host-3/stream-4"}
    for what, operation, request in (
        ("newest 100 lines of a stream", "GetLogEvents", stream | {"limit": 100}),
        ("oldest 100 lines", "GetLogEvents", stream | {"limit": 100, "startFromHead": True}),
        ("newest 1 MiB of a stream", "GetLogEvents", stream),
        (
            "last minute of 100 streams, one page",
            "FilterLogEvents",
            {"logGroupName": GROUP, "startTime": int(time.time() * 1000) - 60_000},
        ),
        (
            "a page of a search that finds nothing",
            "FilterLogEvents",
            {"logGroupName": GROUP, "filterPattern": "nowhere"},
        ),
    ):
        took = [await _timed(endpoint, operation, request) for _ in range(11)]
        say(f"{what}: first {took[0]:.0f} ms, median {statistics.median(took):.0f} ms")


async def _timed(endpoint: Endpoint, operation: str, request: dict[str, Any]) -> float:
    headers = {
        "X-Amz-Target": f"Logs_20140328.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
    }
    began = time.perf_counter()
    async with endpoint.session.post(
        endpoint.url, data=_encode(request), headers=headers
    ) as answer:
        await answer.read()
        assert answer.status == 200
    return 1000 * (time.perf_counter() - began)


def _call(
    agent: ScriptedAgent,
    number: int,
    turn: int,
    lines: Lines,
    *,
    stock: list[list[str]] | None = None,
) -> bytes:
    now_ms = int(time.time() * 1000)
    batches = []
    for stream in range(STREAMS):
        some = lines.some(LINES) if stock is None else random.choice(stock)
        batches.append(
            {
                "id": f"{turn}/{stream}",
                "group": GROUP,
                "stream": f"host-{number}/stream-{stream}",
                "createGroup": True,
                "events": [[now_ms + place * 10, line] for place, line in enumerate(some)],
            }
        )
    return gzip.compress(_encode({"instance": agent.arn, "batches": batches}), 1)


async def _post(agent: ScriptedAgent, body: bytes) -> None:
    headers = {"Content-Encoding": "gzip"}
    while True:
        status, answer = await agent.send("POST", "/v1/logs", body, headers=headers)
        if status == 200:
            assert b"refused" not in answer, answer[:300]
            return
        assert status == 503, answer[:300]
        await asyncio.sleep(0.2)


def _memory(process: psutil.Process) -> str:
    return f"{process.memory_full_info().pss / 2**20:.0f} MiB (PSS)"


if __name__ == "__main__":
    raise SystemExit(main())
