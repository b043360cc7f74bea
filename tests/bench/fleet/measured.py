"""The figures of one size of a fleet: a control process of its own, on a store of its own, with simulated hosts."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.bench.fleet import placing
from tests.bench.fleet.hosts import Fleet
from tests.bench.fleet.operator import BATCH, Operator
from tests.bench.floor import cpu_seconds, pss_mib
from tests.support.fleet import Control, free_port, give_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

RATE: Final = 20.0
"""Orders in a second while wake-ups are measured."""
STRATEGIES: Final[dict[str, list[dict[str, str]]]] = {
    "no strategy": [],
    "spread over zones and hosts": [
        {"type": "spread", "field": "attribute:ecs.availability-zone"},
        {"type": "spread", "field": "instanceId"},
    ],
    "binpack by memory": [{"type": "binpack", "field": "memory"}],
}
_SETTLE_LIMIT_S: Final = 300.0
_TOGETHER: Final = 500
"""So many hosts register, and then they poll."""


class Effort(NamedTuple):
    """How much is measured."""

    idle_s: float
    orders: int
    """Single orders at ``RATE``."""
    tasks: int
    """Tasks that are placed in batches, for each strategy."""


class Figures(NamedTuple):
    """What one size of a fleet costs."""

    hosts: int
    registered_per_s: float
    floor_s: float
    """A call that reads nothing, from end to end, median: what the machine and the two programs' HTTP take."""
    wake_p50_s: float
    wake_p99_s: float
    """From RunTask to the order at the host."""
    placed_per_s: dict[str, float]
    """By strategy, until the last order was answered."""
    placed_cpu_s: dict[str, float]
    """Processor time of control for one task of these, reports of hosts included."""
    placing_cpu_s: dict[str, float]
    """Processor time of RunTask alone for one task, without HTTP, hosts and operator."""
    running_per_s: float
    """Until the last host has reported, without a strategy."""
    idle_core: float
    """Of a core."""
    polls_per_s: float
    """While it idles."""
    memory_mib: float
    kib_per_host: float
    """What each registered host adds to the memory of control with all that was done."""
    kib_per_poll: float
    """What each poll adds that is held."""
    refused: int
    """Calls of hosts that were not answered as they should be."""


async def measured(
    directory: Path, hosts: int, effort: Effort, say: Callable[[str], None]
) -> Figures:
    """Return the figures for so many hosts."""
    alone = await placing.measured(directory, hosts, STRATEGIES)
    say(", ".join(f"{name}: {cpu_s * 1000:.2f} ms" for name, cpu_s in alone.items()))
    port = free_port()
    arguments = ["control", "--listen", f"127.0.0.1:{port}", "--data-dir", str(directory)]
    control = Control(name="control", arguments=arguments, directory=directory, port=port)
    await asyncio.to_thread(give_keys, directory)
    await asyncio.to_thread(control.start)
    operator, fleet = Operator(directory / "control.sock"), Fleet(port, hosts)
    try:
        await asyncio.to_thread(control.ready)
        await operator.open()
        found = await _measured(control, operator, fleet, effort, say)
        return found._replace(placing_cpu_s=alone)
    except BaseException:
        say(control.tail(8))
        raise
    finally:
        fleet.close()
        operator.close()
        await asyncio.to_thread(control.stop)


async def _measured(
    control: Control, operator: Operator, fleet: Fleet, effort: Effort, say: Callable[[str], None]
) -> Figures:
    number = len(fleet.hosts)
    warm = await operator.call("ListTasks", {})
    assert not warm["taskArns"]
    empty = pss_mib(control.pid)
    registered_s = of_polls = 0.0
    for start in range(0, number, _TOGETHER):
        some = fleet.hosts[start : start + _TOGETHER]
        registered_s += await fleet.register(some)
        before = pss_mib(control.pid)
        await fleet.open(some)
        of_polls += pss_mib(control.pid) - before
    say(f"{number} hosts registered within {registered_s:.1f} s")
    await _until(lambda: fleet.are_told)
    gc.collect()
    gc.freeze()
    say("every host holds a poll")
    await asyncio.sleep(2)
    memory = pss_mib(control.pid)
    idle, polls = await _idle(control, fleet, effort.idle_s)
    say(f"idle: {idle:.1%} of a core, {polls:.0f} polls/s")
    say(f"memory: {empty:.0f} MiB, {memory:.0f} polling, {of_polls:.0f} of it of polls")
    await operator.stop(list((await operator.in_batches(BATCH)).at))
    floor_s = await _floor(operator)
    told = await operator.at_rate(effort.orders, RATE)
    await _until(lambda: told.at.keys() <= fleet.running.keys())
    waits = sorted(fleet.ordered[arn] - at for arn, at in told.at.items())
    p50, p99 = statistics.median(waits), waits[int(len(waits) * 0.99)]
    say(f"wake-up: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")
    await _end(operator, fleet, told.at)
    rates: dict[str, float] = {}
    cpu: dict[str, float] = {}
    running = 0.0
    for name, strategy in STRATEGIES.items():
        began_s, began = cpu_seconds(control.pid), time.monotonic()
        placed = await operator.in_batches(effort.tasks, strategy)
        rates[name] = len(placed.at) / placed.took_s
        await _until(lambda at=placed.at: at.keys() <= fleet.running.keys())  # type: ignore[misc]
        running = running or len(placed.at) / (time.monotonic() - began)
        cpu[name] = (cpu_seconds(control.pid) - began_s) / len(placed.at)
        say(f"{name}: {rates[name]:.0f} placements/s, {cpu[name] * 1000:.2f} ms of control each")
        await _end(operator, fleet, placed.at)
    return Figures(
        hosts=number,
        registered_per_s=number / registered_s,
        floor_s=floor_s,
        wake_p50_s=p50,
        wake_p99_s=p99,
        placed_per_s=rates,
        placed_cpu_s=cpu,
        placing_cpu_s={},
        running_per_s=running,
        idle_core=idle,
        polls_per_s=polls,
        memory_mib=(used := pss_mib(control.pid)),
        kib_per_host=(used - empty) * 1024 / number,
        kib_per_poll=of_polls * 1024 / number,
        refused=fleet.refused,
    )


async def _idle(control: Control, fleet: Fleet, seconds: float) -> tuple[float, float]:
    """Return the part of a core that control takes while hosts only poll, and polls per second."""
    began_s, polls, began = cpu_seconds(control.pid), fleet.polls, time.monotonic()
    await asyncio.sleep(seconds)
    took_s = time.monotonic() - began
    return (cpu_seconds(control.pid) - began_s) / took_s, (fleet.polls - polls) / took_s


async def _floor(operator: Operator) -> float:
    took: list[float] = []
    for _ in range(50):
        began = time.monotonic()
        await operator.call("ListAccountSettings", {})
        took.append(time.monotonic() - began)
    return statistics.median(took)


async def _end(operator: Operator, fleet: Fleet, tasks: Collection[str]) -> None:
    """Stop tasks, and wait until their hosts have done so."""
    await operator.stop(list(tasks))
    await _until(lambda: fleet.stopped.issuperset(tasks))
    await asyncio.sleep(1)


async def _until(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(_SETTLE_LIMIT_S):
        while not check():  # noqa: ASYNC110 - reports are counted, not awaited
            await asyncio.sleep(0.05)


def descriptors_for(hosts: int) -> bool:
    """Return whether this process may open connections for so many hosts."""
    return os.sysconf("SC_OPEN_MAX") > hosts + 256
