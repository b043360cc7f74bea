"""``make bench-fleet``: measure fleets of several sizes and print how the figures grow; exit 1 when a limit does not hold."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.listening.limits import raise_descriptor_limit
from tests.bench.fleet.measured import STRATEGIES, Effort, Figures, descriptors_for, measured
from tests.bench.measures import Row

if TYPE_CHECKING:
    from collections.abc import Callable

WAKE_LIMIT_S: Final = 0.05
PLACED_LIMIT_PER_S: Final = 1000
IDLE_LIMIT: Final = 0.10
POLL_LIMIT_KIB: Final = 15
GROWTH_LIMIT: Final = 2.0
OF_HOSTS: Final = 10_000
"""With so many hosts, all limits have to hold."""


def main() -> int:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="bench-fleet", description=__doc__)
    parser.add_argument("--hosts", default="100,1000,10000", help="sizes, smallest first")
    parser.add_argument(
        "--idle", type=float, default=60, metavar="S", help="how long idling is measured"
    )
    parser.add_argument("--orders", type=int, default=400, help="single orders, 20 in a second")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks placed for each strategy")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    raise_descriptor_limit()
    sizes = [int(each) for each in options.hosts.split(",")]
    found: list[Figures] = []
    for size in sizes:
        if not descriptors_for(size):
            _say(f"{size} hosts need more open files than this process may have (ulimit -n)")
            return 2
        effort = Effort(options.idle, options.orders, options.tasks)
        with tempfile.TemporaryDirectory(prefix="ecs-bench-") as directory:
            found.append(asyncio.run(measured(Path(directory), size, effort, _say)))
    if options.json:
        print(json.dumps([each._asdict() for each in found], indent=2))  # noqa: T201 - the answer
        return 0
    rows = _rows(found)
    print(_table(found, rows))  # noqa: T201 - the answer
    return 0 if all(row.holds is not False for row in rows) else 1


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")


def _rows(found: list[Figures]) -> list[Row]:
    def row(
        what: str,
        value: Callable[[Figures], float],
        shown: str,
        limit: str = "",
        holds: Callable[[float], bool] | None = None,
    ) -> Row:
        values = [value(each) for each in found]
        counts = holds is not None and found[-1].hosts >= OF_HOSTS
        return Row(
            what,
            " / ".join(shown.format(one) for one in values),
            ratio=values[-1] / values[0] if len(values) > 1 and values[0] else None,
            limit=limit,
            holds=holds(values[-1]) if counts and holds is not None else None,
        )

    first = found[0].placing_cpu_s
    rows = [
        row("a call that does nothing (floor)", lambda f: f.floor_s * 1000, "{:.1f} ms"),
        row("RunTask → order at the host, p50", lambda f: f.wake_p50_s * 1000, "{:.1f} ms"),
        row(
            "the same, p99",
            lambda f: f.wake_p99_s * 1000,
            "{:.1f} ms",
            f"≤ {WAKE_LIMIT_S * 1000:.0f} ms",
            lambda ms: ms <= WAKE_LIMIT_S * 1000,
        ),
    ]
    for name in STRATEGIES:
        rows += [
            row(
                f"placements/s in batches of 10, {name}",
                lambda f, name=name: f.placed_per_s[name],  # type: ignore[misc]
                "{:.0f}",
                f"≥ {PLACED_LIMIT_PER_S}",
                lambda rate: rate >= PLACED_LIMIT_PER_S,
            ),
            row(
                f"CPU of control for each of these, until it runs, {name}",
                lambda f, name=name: f.placed_cpu_s[name] * 1000,  # type: ignore[misc]
                "{:.2f} ms",
            ),
            row(
                f"CPU of RunTask alone for each task of a batch, {name}",
                lambda f, name=name: f.placing_cpu_s[name] * 1000,  # type: ignore[misc]
                "{:.2f} ms",
                f"≤ {GROWTH_LIMIT:g}×",
                lambda ms, least=first[name]: ms <= least * 1000 * GROWTH_LIMIT,  # type: ignore[misc]
            ),
        ]
    return [
        *rows,
        row("tasks that run/s, reports of hosts included", lambda f: f.running_per_s, "{:.0f}"),
        row(
            "idle: CPU of control, of a core",
            lambda f: f.idle_core * 100,
            "{:.1f} %",
            f"≤ {IDLE_LIMIT:.0%}",
            lambda percent: percent <= IDLE_LIMIT * 100,
        ),
        row("idle: polls/s", lambda f: f.polls_per_s, "{:.0f}"),
        row("memory of control (PSS)", lambda f: f.memory_mib, "{:.0f} MiB"),
        row("the same, for each host", lambda f: f.kib_per_host, "{:.1f} KiB"),
        row(
            "memory for each held poll",
            lambda f: f.kib_per_poll,
            "{:.1f} KiB",
            f"≤ {POLL_LIMIT_KIB} KiB",
            lambda kib: kib <= POLL_LIMIT_KIB,
        ),
        row("registrations/s", lambda f: f.registered_per_s, "{:.0f}"),
        row("calls of hosts that failed", lambda f: f.refused, "{:.0f}", "0", lambda n: n == 0),
    ]


def _table(found: list[Figures], rows: list[Row]) -> str:
    sizes = " / ".join(f"{each.hosts:,}" for each in found)
    growth = f"{found[-1].hosts:,} : {found[0].hosts:,}"
    lines = [f"| | {sizes} hosts | {growth} | Limit | Met |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        ratio = f"{row.ratio:.2f}×" if row.ratio is not None else ""
        met = {True: "yes", False: "**no**", None: ""}[row.holds]
        lines.append(f"| {row.what} | {row.ours} | {ratio} | {row.limit} | {met} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
