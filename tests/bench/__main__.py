"""``make bench``: run every measurement and print the table; exit 1 when a limit does not hold."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import docker

from tests.bench import groups, identities, logs_load, measures, plumbing, services
from tests.bench.acs import ScriptedAcs
from tests.bench.control import ScriptedControl
from tests.bench.floor import RawEngine
from tests.bench.measures import Bench, Row
from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="launches per median")
    parser.add_argument("--containers", type=int, default=100, help="idle containers")
    parser.add_argument("--seconds", type=float, default=60, help="how long idling is measured")
    parser.add_argument(
        "--part",
        choices=[
            "all",
            "sampling",
            "plumbing",
            "groups",
            "network",
            "services",
            "start",
            "logs",
            "identities",
        ],
        default="all",
        help="sampling: only what it costs to sample idle containers each second; plumbing: only "
        "what it costs to connect a sandbox; groups: only what changes of security groups cost; "
        "network: only launches in each network mode; start: only starts without tasks; services: "
        "what a thousand services on a thousand hosts cost control, which is in no other part; logs: what "
        "control's log store holds out, likewise; identities: what joining, renewing and coming back of 200 hosts "
        "cost control, likewise",
    )
    parser.add_argument(
        "--gigabytes",
        type=float,
        default=10,
        help="of lines that are stored before logs are measured",
    )
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ecs-bench-") as directory:
        if options.part == "services":
            rows = asyncio.run(services.measured(Path(directory), options.rounds, _say))
        elif options.part == "logs":
            rows = asyncio.run(logs_load.measured(Path(directory), options.gigabytes, _say))
        elif options.part == "identities":
            rows = asyncio.run(identities.measured(Path(directory), _say))
        else:
            rows = asyncio.run(_run(Path(directory), options))
    if options.json:
        print(json.dumps([asdict(r) for r in rows], indent=2))  # noqa: T201 - the answer
    else:
        print(_machine(), "", _table(rows), sep="\n")  # noqa: T201 - the answer
    return 0 if all(r.holds is not False for r in rows) else 1


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")


async def _run(directory: Path, options: argparse.Namespace) -> list[Row]:
    connected: list[Row] = []
    if options.part in ("all", "plumbing"):
        connected = await plumbing.plumbing(max(100, options.rounds))
    if options.part == "plumbing":
        return connected
    changes: list[Row] = []
    if options.part in ("all", "groups"):
        changes = await asyncio.to_thread(groups.measured)
    if options.part == "groups":
        return changes
    image = await asyncio.to_thread(_image)
    sampling = []
    if options.part not in ("network", "start"):
        sampling = await _sampling(directory, image, options, _say)
    if options.part == "sampling":
        return sampling
    if options.part == "network":
        return await _networks(directory, image, options, _say)
    control = ScriptedControl()
    await control.start()
    agent = measures.make_agent(directory, control.port)
    bench = Bench(control, agent, image, options.rounds, _say)
    agent.start()
    try:
        await control.until_polled(0.1)
        await asyncio.sleep(3)  # the pool fills up
        if options.part == "start":
            return await measures.fresh_start(bench)
        rows = [
            await measures.one_task(bench, "awsvpc", "bridge", 0.55),
            await measures.one_task(bench, "none", "none", 0.55),
            await measures.one_task(bench, "bridge", "bridge", 0.55, port=80),
            await measures.one_task(bench, "host", "host", 1.15),
            *await measures.bursts(bench, 90, 8),
            *await measures.idle(bench, 50, options.seconds, 2.0),
            *(await measures.idle(bench, options.containers, options.seconds, 1.5))[:3],
            *await measures.fresh_start(bench),
            *await _both_wires(directory, bench),
            *sampling,
            *connected,
            *changes,
        ]
    except BaseException:
        sys.stderr.write(agent.tail() + "\n")
        raise
    finally:
        await asyncio.sleep(2)
        await asyncio.to_thread(agent.stop)
        await control.close()
    return rows


async def _networks(
    directory: Path, image: str, options: argparse.Namespace, say: Callable[[str], None]
) -> list[Row]:
    """Measure launches in each network mode, with an agent of its own that ends here."""
    control = ScriptedControl()
    await control.start()
    agent = measures.make_agent(directory, control.port)
    bench = Bench(control, agent, image, options.rounds, say)
    agent.start()
    try:
        await control.until_polled(0.1)
        await asyncio.sleep(3)  # the pool fills up
        return [
            await measures.one_task(bench, "awsvpc", "bridge", 0.55),
            await measures.one_task(bench, "none", "none", 0.55),
            await measures.one_task(bench, "bridge", "bridge", 0.55, port=80),
            *await measures.bursts(bench, 90, 8),
        ]
    except BaseException:
        sys.stderr.write(agent.tail() + "\n")
        raise
    finally:
        await asyncio.sleep(2)
        await asyncio.to_thread(agent.stop)
        await control.close()


async def _sampling(
    directory: Path, image: str, options: argparse.Namespace, say: Callable[[str], None]
) -> list[Row]:
    """Measure idle containers with a sample each second, with an agent of its own that ends here."""
    control = ScriptedControl()
    await control.start()
    place = directory / "sampling"
    place.mkdir()
    agent = measures.make_agent(place, control.port)
    agent.environment["ECS_POLLING_METRICS_WAIT_DURATION"] = "1s"
    bench = Bench(control, agent, image, options.rounds, say)
    agent.start()
    try:
        await control.until_polled(0.1)
        return await measures.sampled_each_second(bench, options.seconds)
    except BaseException:
        sys.stderr.write(agent.tail() + "\n")
        raise
    finally:
        await asyncio.sleep(2)
        await asyncio.to_thread(agent.stop)
        await control.close()


async def _both_wires(directory: Path, bench: Bench) -> list[Row]:
    """Measure ACS against the long poll, with an agent of its own that ends here."""
    control = ScriptedAcs()
    await control.start()
    agent = measures.make_ecs_agent(directory, control.port)
    acs = Bench(control, agent, bench.image, bench.rounds, bench.say)
    agent.start()
    try:
        await control.until_polled(0.1)
        await asyncio.sleep(3)
        rows = [await measures.two_wires(bench, acs, mode) for mode in ("host", "awsvpc")]
        return [*rows, *await measures.ecs_session(acs)]
    except BaseException:
        sys.stderr.write(agent.tail() + "\n")
        raise
    finally:
        await asyncio.sleep(2)
        await asyncio.to_thread(agent.stop)
        await control.close()


def _image() -> str:
    client = docker.APIClient()
    try:
        return images.busybox(client)
    finally:
        client.close()


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
    try:
        engine = f"Docker Engine {RawEngine().call('GET', '/version')['Version']}"
    except OSError:  # some parts need none
        engine = "no Docker Engine"
    return (
        f"{cores} cores of {model}, Linux {platform.release()}, {engine}, "
        f"Python {platform.python_version()}"
    )


def _table(rows: list[Row]) -> str:
    head = ("what", "ours", "floor", "ratio", "to reach", "")
    lines = [
        (
            r.what,
            r.ours,
            r.floor,
            f"{r.ratio:.2f}×" if r.ratio is not None else "–",
            r.limit,
            {True: "yes", False: "NO", None: ""}[r.holds],
        )
        for r in rows
    ]
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]
    text = [head, tuple("-" * w for w in widths), *lines]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in text
    )


if __name__ == "__main__":
    sys.exit(main())
