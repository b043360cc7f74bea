"""``make chaos``: one run; exit 1 when a promise was not kept, and 2 when the command line is wrong."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.chaos import faults_clock, plan
from tests.chaos.run import Options, run
from tests.support.fleet import ACS, LONG_POLL

_WIRES = {"ours": LONG_POLL, "amazon": ACS}


def main() -> int:
    """Run as the command line asks."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of everything that is chosen")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults strike")
    parser.add_argument(
        "--wires",
        default="ours,amazon",
        help="protocol of each agent, `ours` or `amazon`; as many as there are names",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="KIND", help="of faults; can be repeated"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="KIND", help="of faults; can be repeated"
    )
    parser.add_argument("--fault-gap", type=float, default=4.0, help="mean seconds between faults")
    parser.add_argument("--work-gap", type=float, default=2.5, help="mean seconds between orders")
    parser.add_argument(
        "--within",
        type=float,
        default=90.0,
        metavar="SECONDS",
        help="in which all has to be as ordered in the end; up to five times longer on a slow machine",
    )
    parser.add_argument(
        "--clock", action="store_true", help="step the clock too: only on a host that has its own"
    )
    parser.add_argument("--keep", type=Path, default=Path("build/chaos"), help="where histories go")
    parser.add_argument(
        "--always-keep", action="store_true", help="the history, even if all is well"
    )
    parser.add_argument("--list", action="store_true", help="list the kinds of faults and end")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    if options.list:
        print("\n".join(plan.KINDS))  # noqa: T201 - the answer
        return 0
    signal.signal(signal.SIGTERM, _interrupted)
    report = run(
        Options(
            seed=options.seed,
            minutes=options.minutes,
            wires=_wires(parser, options.wires),
            kinds=_kinds(parser, options),
            fault_gap_s=options.fault_gap,
            work_gap_s=options.work_gap,
            keep=options.keep,
            is_quiet=False,
            always_keep=options.always_keep,
            within_s=options.within,
        )
    )
    text = json.dumps(report.as_json(), indent=2) if options.json else report.as_text()
    print(text)  # noqa: T201 - the answer
    return 0 if report.is_clean else 1


def _interrupted(*_: object) -> None:
    """End like after Ctrl-C: everything that was begun is mended and removed."""
    raise KeyboardInterrupt


def _wires(parser: argparse.ArgumentParser, text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in _WIRES:
            parser.error(f"--wires: {name!r} is neither `ours` nor `amazon`")
    return [_WIRES[name] for name in names]


def _kinds(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, plan.Kind]:
    known = dict(plan.KINDS)
    if options.clock:
        if not faults_clock.is_ours():
            parser.error("--clock: the clock is shared with this machine; use a virtual machine")
        known[plan.CLOCK] = plan.CLOCK_KIND
    for name in (*options.only, *options.without):
        if name not in known:
            parser.error(f"{name!r} is no kind of fault; see --list")
    chosen = {name: known[name] for name in options.only} or known
    return {name: kind for name, kind in chosen.items() if name not in options.without}


if __name__ == "__main__":
    sys.exit(main())
