"""The measurements: each leaves the host as it found it and returns what it read."""

from __future__ import annotations

import asyncio
import math
import statistics
import subprocess
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.bench import floor, reading
from tests.bench.floor import RawEngine
from tests.support.fleet import KEYS, Agent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.bench.acs import ScriptedAcs
    from tests.bench.control import ScriptedControl

Say = "Callable[[str], None]"
STILL_S = 6.0
"""If no container came or went for so long, nothing more is expected."""
STILL_LIMIT_S = 300.0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    ours: str
    floor: str = "–"
    ratio: float | None = None
    limit: str = ""
    holds: bool | None = None


@dataclass
class Bench:
    """What every measurement works with."""

    control: ScriptedControl | ScriptedAcs
    agent: Agent
    image: str
    rounds: int
    say: Callable[[str], None]


def make_agent(directory: Path, port: int) -> Agent:
    """Return an agent of its own for this bench, not started."""
    agent = Agent(name="agent", arguments=["run"], directory=directory)
    agent.environment = {
        "ECS_CONTROL_ENDPOINT": f"http://127.0.0.1:{port}",
        "ECS_CLUSTER": "bench",
        "ECS_DATADIR": str(directory / "data"),
        "ECS_AGENT_SOCKET": str(agent.socket),
        "ECS_TASK_BRIDGE": "ecs-bench0",
        "ECS_TASK_POOL_CIDR": "10.219.240.0/22",
        "ECS_FIREWALL_TABLE": "ecs_bench",
        "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "1s",
        "ECS_LOGLEVEL": "warn",
    }
    return agent


def make_ecs_agent(directory: Path, port: int) -> Agent:
    """Return an agent that takes its orders over ACS and lives beside the other, not started."""
    agent = Agent(name="ecs-agent", arguments=["run"], directory=directory)
    common = make_agent(directory, port).environment
    common.pop("ECS_CONTROL_ENDPOINT")
    agent.environment = {
        **common,
        **KEYS,
        "ECS_BACKEND_HOST": f"http://127.0.0.1:{port}",
        "ECS_EXTERNAL": "true",
        "ECS_DATADIR": str(directory / "ecs-data"),
        "ECS_AGENT_SOCKET": str(agent.socket),
        "ECS_TASK_BRIDGE": "ecs-bench1",
        "ECS_TASK_POOL_CIDR": "10.219.244.0/22",
        "ECS_FIREWALL_TABLE": "ecs_bench_acs",
    }
    return agent


def payload(image: str, mode: str, port: int = 0) -> dict[str, Any]:
    """Return an order for a task of one container, which publishes a port if one is named."""
    task_id = uuid.uuid4().hex
    ports = {"portMappings": [{"containerPort": port, "hostPort": 0}]} if port else {}
    return {
        "arn": f"arn:aws:ecs:us-east-1:000000000000:task/bench/{task_id}",
        "family": "bench",
        "version": "1",
        "desiredStatus": "RUNNING",
        "networkMode": mode,
        "containers": [
            {
                "name": "main",
                "image": image,
                "command": ["sleep", "100000"],
                "memory": 32,
                "stopTimeout": 1,
                **ports,
            }
        ],
    }


async def _finish(bench: Bench, *arns: str) -> None:
    await bench.control.stop(*arns)
    for arn in arns:
        await bench.control.until(arn, "STOPPED")


async def one_task(bench: Bench, mode: str, floor_mode: str, limit: float, *, port: int = 0) -> Row:
    """Order received to RUNNING reported, against the engine's own create and start."""
    raw = RawEngine()
    ours, theirs = [], []
    for _ in range(bench.rounds):
        container_id, took_s = await asyncio.to_thread(
            raw.create_and_start, floor.body(bench.image, floor_mode, port)
        )
        theirs.append(took_s)
        await asyncio.to_thread(raw.remove, container_id)
        order = payload(bench.image, mode, port)
        given = await bench.control.order(order)
        ours.append(await bench.control.until(order["arn"], "RUNNING") - given)
        await _finish(bench, order["arn"])
        await asyncio.sleep(1.6)  # its clean-up, and a refill of the pool, must not blur the next
        bench.say(
            f"{mode}: {ours[-1] * 1000:.0f} ms, engine {floor_mode} {theirs[-1] * 1000:.0f} ms"
        )
    mine, base = statistics.median(ours), statistics.median(theirs)
    what = f"`{mode}` task with a published port" if port else f"`{mode}` task"
    return Row(
        f"one {what}, order received → RUNNING reported",
        f"{mine * 1000:.0f} ms",
        f"{base * 1000:.0f} ms (`{floor_mode}` create + start)",
        mine / base,
        f"≤ {limit:.2f}×",
        mine / base <= limit,
    )


async def two_wires(long_poll: Bench, acs: Bench, mode: str) -> Row:
    """The same order over ACS and over the long poll, by turns, to two agents side by side.

    Twice as many launches as elsewhere, since a millisecond of the wire is looked for in a hundred of
    the engine. What two medians of this run may differ by chance, twice their standard error, is no
    difference.
    """
    took: dict[int, list[float]] = {0: [], 1: []}
    for number in range(4 * long_poll.rounds):
        # In turns, each first as often as the other, so that what the machine does hits both.
        which = (number + number // 2) % 2
        bench = (long_poll, acs)[which]
        order = payload(bench.image, mode)
        given = await bench.control.order(order)
        took[which].append(await bench.control.until(order["arn"], "RUNNING") - given)
        await _finish(bench, order["arn"])
        await asyncio.sleep(1.6)
        bench.say(f"{mode} over {('long poll', 'ACS')[which]}: {took[which][-1] * 1000:.0f} ms")
    base, mine = statistics.median(took[0]), statistics.median(took[1])
    noise = 2 * math.hypot(*(_error_of_median(times) for times in took.values()))
    return Row(
        f"one `{mode}` task over ACS, order received → RUNNING reported",
        f"{mine * 1000:.0f} ms",
        f"{base * 1000:.0f} ms (long poll)",
        mine / base,
        f"≤ 1.00×, {noise:.2f} of it noise",
        mine / base <= 1 + noise,
    )


def _error_of_median(times: list[float]) -> float:
    """Return the standard error of a median, as a part of it."""
    return 1.25 * statistics.stdev(times) / statistics.median(times) / math.sqrt(len(times))


async def bursts(bench: Bench, count: int, workers: int) -> list[Row]:
    """Many tasks in one order, twice: a single burst is not a median."""
    rows = []
    for nth in ("the first", "again"):
        took = await _burst(bench, count, workers)
        rows.append(_burst_row(f"{count} tasks in one order, {nth}", took, workers, 0.7))
    return rows


async def _burst(bench: Bench, count: int, workers: int) -> tuple[float, float]:
    """Return seconds of ours, and of the engine with as many calls side by side."""
    raw = RawEngine()
    ids, base = await asyncio.to_thread(floor.launch_many, bench.image, "none", count, workers)
    for container_id in ids:
        await asyncio.to_thread(raw.remove, container_id)
    orders = [payload(bench.image, "none") for _ in range(count)]
    given = await bench.control.order(*orders)
    arns = [o["arn"] for o in orders]
    ended = [await bench.control.until(a, "RUNNING", limit_s=300) for a in arns]
    mine = max(ended) - given
    await _finish(bench, *arns)
    bench.say(f"{count} tasks: {mine:.1f} s, engine {base:.1f} s")
    return mine, base


def _burst_row(what: str, took: tuple[float, float], workers: int, limit: float) -> Row:
    mine, base = took
    return Row(
        what,
        f"{mine:.1f} s",
        f"{base:.1f} s ({workers} workers)",
        mine / base,
        f"≤ {limit:.2f}×",
        mine / base <= limit,
    )


async def idle(bench: Bench, count: int, seconds: float, limit_percent: float) -> list[Row]:
    """Processor and memory of agent and engine while containers do nothing and metrics are on."""
    before = floor.pss_mib(bench.agent.pid)
    orders = [payload(bench.image, "awsvpc" if i % 2 else "none") for i in range(count)]
    await bench.control.order(*orders)
    arns = [o["arn"] for o in orders]
    for arn in arns:
        await bench.control.until(arn, "RUNNING", limit_s=300)
    await _until_still()
    agent, theirs = await _cpu_percent(bench, seconds)
    memory = floor.pss_mib(bench.agent.pid)
    rows = [
        Row(
            f"{count} idle containers, metrics on: CPU of agent + engine",
            f"{agent:.2f} + {theirs:.2f} % of a core",
            limit=f"≤ {limit_percent:.1f} %",
            holds=agent + theirs <= limit_percent,
        ),
        Row(
            f"agent memory (PSS) idle / with {count} containers",
            f"{before:.0f} / {memory:.0f} MiB",
            limit="≤ 60 MiB" if count >= 100 else "",
            holds=memory <= 60 if count >= 100 else None,
        ),
        await _exits(bench, arns[:40]),
        await _crash(bench),
    ]
    await _finish(bench, *arns[40:])
    return rows


async def sampled_each_second(bench: Bench, seconds: float) -> list[Row]:
    """Processor and memory of agent and engine with 100, then 300 idle containers, all sampled."""
    await asyncio.sleep(5)
    before = floor.pss_mib(bench.agent.pid)
    arns: list[str] = []
    rows = []
    for count, limit_percent in ((100, 1.0), (300, 2.5)):
        modes = ["awsvpc", "none", "bridge"]
        orders = [payload(bench.image, modes[i % 3]) for i in range(len(arns), count)]
        await bench.control.order(*orders)
        new = [order["arn"] for order in orders]
        for arn in new:
            await bench.control.until(arn, "RUNNING", limit_s=600)
        arns += new
        await _until_still()
        agent, engine = await _cpu_percent(bench, seconds)
        bench.say(f"{count} containers each second: {agent:.2f} + {engine:.2f} % of a core")
        ids = [bench.control.seen[arn][-1][1]["containers"][0]["runtimeId"] for arn in arns]
        least = await asyncio.to_thread(reading.measure, ids)
        bench.say(f"reading their files alone: {least.idle:.2f}, every file {least.every:.2f} %")
        rows.append(
            Row(
                f"{count} idle containers, all figures each second: CPU of agent + engine",
                f"{agent:.2f} + {engine:.2f} % of a core",
                f"{least.idle:.2f} % (what changes in idle ones), {least.every:.2f} % (every file)",
                agent / least.every,
                limit=f"≤ {limit_percent:.1f} %",
                holds=agent + engine <= limit_percent,
            )
        )
        memory = floor.pss_mib(bench.agent.pid)
        bench.say(f"memory {before:.1f} MiB idle, {memory:.1f} MiB with {count} containers")
        if count == 100:
            rows.append(
                Row(
                    f"agent memory (PSS) idle / with {count} containers, sampled each second",
                    f"{before:.1f} / {memory:.1f} MiB",
                    limit="≤ 50 / 60 MiB",
                    holds=before <= 50 and memory <= 60,
                )
            )
    await _finish(bench, *arns)
    return rows


async def _until_still() -> None:
    """Wait until no sandboxes were made for a while: after a burst of launches they take a minute."""
    count, since = -1, time.monotonic()
    deadline = since + STILL_LIMIT_S
    while time.monotonic() - since < STILL_S:
        if time.monotonic() > deadline:
            raise TimeoutError(f"containers still come and go after {STILL_LIMIT_S:g} s")
        now = len(await asyncio.to_thread(RawEngine().call, "GET", "/containers/json"))
        if now != count:
            count, since = now, time.monotonic()
        await asyncio.sleep(1)


async def _cpu_percent(bench: Bench, seconds: float) -> tuple[float, float]:
    """Return what agent and engine use over some seconds, in percent of a core."""
    engine = floor.engine_pids()
    begun = time.monotonic()
    agent_0, engine_0 = floor.cpu_seconds(bench.agent.pid), floor.cpu_seconds(*engine)
    await asyncio.sleep(seconds)
    lasted = time.monotonic() - begun
    agent = 100 * (floor.cpu_seconds(bench.agent.pid) - agent_0) / lasted
    return agent, 100 * (floor.cpu_seconds(*engine) - engine_0) / lasted


async def _exits(bench: Bench, arns: list[str]) -> Row:
    """A container's end to its report on the wire."""
    took = []
    for arn in arns:
        change = bench.control.seen[arn][-1][1]
        runtime_id = change["containers"][0]["runtimeId"]
        pid = int(
            await asyncio.to_thread(
                subprocess.check_output,
                ["docker", "inspect", "-f", "{{.State.Pid}}", runtime_id],
            )
        )
        begun = time.monotonic()
        await asyncio.to_thread(subprocess.check_call, ["kill", "-9", str(pid)])
        took.append(await bench.control.until(arn, "STOPPED") - begun)
    took.sort()
    worst = took[min(len(took) - 1, round(0.99 * len(took)))]
    return Row(
        f"container exit → change on the wire (median / p99 of {len(took)})",
        f"{statistics.median(took) * 1000:.0f} / {worst * 1000:.0f} ms",
        limit="p99 ≤ 250 ms",
        holds=worst <= 0.25,
    )


async def _crash(bench: Bench) -> Row:
    """kill -9 of the agent with containers running, to its session with control."""
    took = []
    for _ in range(3):
        await asyncio.to_thread(bench.agent.kill)
        begun = time.monotonic()
        bench.agent.start()
        took.append(await bench.control.until_polled(begun) - begun)
        await asyncio.sleep(2)
    middle = statistics.median(took)
    return Row(
        "after kill -9 with all containers: control session back",
        f"{middle:.2f} s",
        limit="≤ 1.5 s",
        holds=middle <= 1.5,
    )


async def ecs_session(bench: Bench) -> list[Row]:
    """What Amazon ECS as control costs: memory, and the start to its session."""
    memory = floor.pss_mib(bench.agent.pid)
    start = (await fresh_start(bench))[0]
    return [
        replace(start, what="process start → ACS session, no tasks"),
        Row("agent memory (PSS) idle with Amazon ECS as control", f"{memory:.0f} MiB"),
    ]


async def fresh_start(bench: Bench) -> list[Row]:
    """Process start to the session with control, without tasks, and what it costs until then."""
    took, used = [], []
    for _ in range(max(3, bench.rounds // 3)):
        await asyncio.to_thread(bench.agent.stop)
        begun = time.monotonic()
        bench.agent.start()
        took.append(await bench.control.until_polled(begun) - begun)
        used.append(floor.cpu_seconds(bench.agent.pid))
        await asyncio.sleep(2)
    middle = statistics.median(took)
    return [
        Row(
            "process start → control session, no tasks",
            f"{middle:.2f} s",
            limit="≤ 1.0 s",
            holds=middle <= 1.0,
        ),
        Row("CPU of the agent until then", f"{statistics.median(used):.2f} s"),
    ]
