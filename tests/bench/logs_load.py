"""What control's log store holds out: 10 MB of lines a second for a minute, beside 10 GB that are stored already.

The store is filled first, with the store's own code. Then a control process is started on it, and ten simulated hosts
deliver lines to it as agents do, whose bodies are made before, so that the sender takes little of the processors. The
newest lines of a stream are read while it delivers, and after. At the end control is killed, and the store is read as
a whole: every line of every call that was answered must be there once.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
import msgspec
import psutil

from agent.controlplane.log_store.changes import Batch
from agent.controlplane.log_store.contract import Bounds, LogStoreBusy
from agent.controlplane.log_store.store import LogStore
from tests.bench.logs import GROUP, HOSTS, Lines, host, until_ready
from tests.bench.measures import Row
from tests.support.control_endpoint import Endpoint, ScriptedAgent
from tests.support.fleet import COMMAND, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS: Final = 60
RATE_BYTES: Final = 10_000_000
"""Of messages, each second."""
STREAMS: Final = 10
"""Of each host."""
READ_MS: Final = 50.0
MEMORY_MIB: Final = 256.0
_STORED_LINE_BYTES: Final = 1000
_STORED_LINES: Final = 24
"""That differ: they compress well, so that filling takes minutes and little of the disk. Blocks are made of so many
bytes of lines, whatever they compress to, so there are as many of them."""
_FILL_BATCH: Final = 500
_FILL_AT_ONCE: Final = 8
_READ_LINES: Final = 1000
_READ_EVERY_S: Final = 0.5
_READ_STREAM: Final = "host-3/stream-4"
_WINDOW: Final = 50_000
_encode = msgspec.json.Encoder().encode


class Load(NamedTuple):
    """What was measured while lines were delivered."""

    lines: int
    message_bytes: int
    wall_s: float
    late_s: float
    """How long after the minute the last call was answered."""
    cpu_s: float
    most_mib: float
    reads_ms: list[float]


async def measured(directory: Path, gigabytes: float, say: Callable[[str], None]) -> list[Row]:
    """Return the rows of the table; ``directory`` takes a few gigabytes."""
    logs = directory / "control" / "logs"
    logs.parent.mkdir()
    behind = await _fill(logs, int(gigabytes * 1e9), say)
    stored_bytes = _taken(logs)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(str(COMMAND), "control", "--open", "--listen", f"127.0.0.1:{port}"),
        *("--data-dir", str(directory / "control"), "--log-max-size", "1t"),
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
            bodies, sent = await asyncio.to_thread(_bodies, [agent.arn for agent in hosts])
            say("lines are delivered now")
            load = await _deliver(endpoint, control, hosts, bodies, sent)
            quiet_ms = [await _read(endpoint) for _ in range(21)]
    finally:
        process.kill()
        await process.wait()
    say("control is killed, and its store is read")
    lost, twice = await _compared(logs, behind, sent)
    return _rows(load, quiet_ms, lost + twice, gigabytes, stored_bytes)


async def _fill(logs: Path, wanted_bytes: int, say: Callable[[str], None]) -> int:
    """Store so many bytes of lines, half of them in the streams that are delivered to.

    Return the sequence of the first line behind them.
    """
    stock = _stock(_STORED_LINE_BYTES)
    store = await LogStore.open(logs, Bounds(most_bytes=2**60))
    began, stored, turn = time.monotonic(), 0, 0

    async def append(number: int) -> int:
        now_ms = int(time.time() * 1000) - 3_600_000
        messages = random.choices(stock, k=_FILL_BATCH)
        place, stream = divmod(number % (2 * HOSTS * STREAMS), STREAMS)
        name = f"host-{place % HOSTS}/stream-{stream}"
        group = GROUP if place < HOSTS else f"{GROUP}/more"
        times = [now_ms + number // 100] * _FILL_BATCH
        batch = Batch(
            group=group,
            stream=name,
            times=times,
            messages=messages,
            make_group=True,
            make_stream=True,
        )
        while True:
            try:
                await store.append(batch)
            except LogStoreBusy:
                await asyncio.sleep(0.05)
            else:
                return _FILL_BATCH * _STORED_LINE_BYTES

    try:
        while stored < wanted_bytes:
            added = await asyncio.gather(*(append(turn + each) for each in range(_FILL_AT_ONCE)))
            stored += sum(added)
            turn += _FILL_AT_ONCE
        behind = store.next_sequence
    finally:
        await store.close()
    say(f"{stored / 1e9:.1f} GB of lines stored in {time.monotonic() - began:.0f} s")
    return behind


def _stock(size: int) -> list[str]:
    """Return some lines of such a size."""
    lines = Lines()
    return [" ".join(lines.some(size // 50))[:size] for _ in range(_STORED_LINES)]


def _bodies(arns: list[str]) -> tuple[list[list[bytes]], Counter[str]]:
    """Return the bodies of each second by host, and how many lines each stream gets."""
    lines, sent = Lines(), Counter[str]()
    stock = [lines.some(100) for _ in range(300)]
    each = sum(len(line) for some in stock for line in some) / (100 * len(stock))
    hundreds = round(RATE_BYTES / HOSTS / STREAMS / each / 100)
    now_ms = int(time.time() * 1000)
    bodies = []
    for second in range(SECONDS):
        of_hosts = []
        for number, arn in enumerate(arns):
            batches = []
            for stream in range(STREAMS):
                messages = [line for _ in range(hundreds) for line in random.choice(stock)]
                name = f"host-{number}/stream-{stream}"
                sent[name] += len(messages)
                at = now_ms + second * 1000
                batches.append(
                    {
                        "id": f"{second}/{stream}",
                        "group": GROUP,
                        "stream": name,
                        "createGroup": True,
                        "events": [[at + place % 1000, m] for place, m in enumerate(messages)],
                    }
                )
            of_hosts.append(gzip.compress(_encode({"instance": arn, "batches": batches}), 1))
        bodies.append(of_hosts)
    return bodies, sent


async def _deliver(
    endpoint: Endpoint,
    control: psutil.Process,
    hosts: list[ScriptedAgent],
    bodies: list[list[bytes]],
    sent: Counter[str],
) -> Load:
    """Deliver everything, a call each second for each host, and look at control meanwhile."""
    reads: list[float] = []
    most = [0.0]
    began = time.monotonic()
    before = control.cpu_times()

    async def of_host(number: int, agent: ScriptedAgent) -> None:
        for second, of_hosts in enumerate(bodies):
            due = began + second + number / len(hosts)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await _post(agent, of_hosts[number])

    async def look() -> None:
        while True:
            await asyncio.sleep(_READ_EVERY_S)
            reads.append(await _read(endpoint))
            most[0] = max(most[0], control.memory_full_info().pss / 2**20)

    looking = asyncio.create_task(look())
    try:
        await asyncio.gather(*(of_host(number, agent) for number, agent in enumerate(hosts)))
    finally:
        looking.cancel()
    wall_s = time.monotonic() - began
    after = control.cpu_times()
    return Load(
        lines=sent.total(),
        message_bytes=SECONDS * RATE_BYTES,
        wall_s=wall_s,
        late_s=max(0.0, wall_s - SECONDS),
        cpu_s=after.user + after.system - before.user - before.system,
        most_mib=most[0],
        reads_ms=reads,
    )


async def _post(agent: ScriptedAgent, body: bytes) -> None:
    while True:
        status, answer = await agent.send(
            "POST", "/v1/logs", body, headers={"Content-Encoding": "gzip"}
        )
        if status == 200:
            assert b"refused" not in answer, answer[:300]
            return
        # It is busy: agents wait, too, and send the same again.
        assert status == 503, answer[:300]
        await asyncio.sleep(0.2)


async def _read(endpoint: Endpoint) -> float:
    """Read the newest lines of a stream; return how long it took in milliseconds."""
    headers = {
        "X-Amz-Target": "Logs_20140328.GetLogEvents",
        "Content-Type": "application/x-amz-json-1.1",
    }
    asked = {"logGroupName": GROUP, "logStreamName": _READ_STREAM, "limit": _READ_LINES}
    began = time.perf_counter()
    async with endpoint.session.post(endpoint.url, data=_encode(asked), headers=headers) as answer:
        body = await answer.read()
    took_ms = 1000 * (time.perf_counter() - began)
    assert answer.status == 200, body[:300]
    return took_ms


async def _compared(logs: Path, sequence: int, sent: Counter[str]) -> tuple[int, int]:
    """Return how many of the lines from a sequence on are not in the store, and how many are there too often."""
    store = await LogStore.open(logs, Bounds(most_bytes=2**60))
    found: Counter[str] = Counter()
    try:
        while True:
            window = await store.window(sequence, most_events=_WINDOW, most_bytes=2**26)
            for event in window.events:
                found[window.streams[event.stream_id][1]] += 1
            if window.next_sequence <= sequence:
                break
            sequence = window.next_sequence
    finally:
        await store.close()
    return (sent - found).total(), (found - sent).total()


def _taken(logs: Path) -> int:
    return sum(path.stat().st_size for path in logs.iterdir() if path.is_file())


def _rows(
    load: Load, quiet_ms: list[float], wrong: int, gigabytes: float, stored_bytes: int
) -> list[Row]:
    rate = load.message_bytes / load.wall_s / 1e6
    while_ms, after_ms = statistics.median(load.reads_ms), statistics.median(quiet_ms)
    stored = f"{gigabytes:g} GB of lines stored ({stored_bytes / 1e9:.1f} GB on disk)"
    return [
        Row(
            f"{load.lines:,} lines delivered at {RATE_BYTES / 1e6:g} MB/s, {stored}",
            f"{rate:.1f} MB/s, {load.late_s:.1f} s late at the end",
            limit="at most 2 s late",
            holds=load.late_s <= 2.0,
        ),
        Row(
            "of them not on the disk, or there twice, after kill -9",
            f"{wrong:,}",
            limit="0",
            holds=wrong == 0,
        ),
        Row(
            "CPU of control meanwhile",
            f"{100 * load.cpu_s / load.wall_s:.0f} % of a core, {1e6 * load.cpu_s / load.lines:.1f} µs a line",
        ),
        Row(
            "memory of control (PSS), most",
            f"{load.most_mib:.0f} MiB",
            limit=f"≤ {MEMORY_MIB:g} MiB",
            holds=load.most_mib <= MEMORY_MIB,
        ),
        Row(
            f"newest {_READ_LINES:,} lines of a stream, median, while lines are delivered",
            f"{while_ms:.0f} ms",
        ),
        Row(
            f"newest {_READ_LINES:,} lines of a stream, median, after it",
            f"{after_ms:.0f} ms",
            limit=f"≤ {READ_MS:g} ms",
            holds=after_ms <= READ_MS,
        ),
    ]
