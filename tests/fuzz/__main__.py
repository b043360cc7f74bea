"""``make fuzz``: fuzzes every family of decoders, guided by coverage, then the APIs and addresses; exit 1 when something broke."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.api_calls import ApiCalls, Defect
from tests.fuzz.choices import of_seed
from tests.fuzz.control import opened
from tests.fuzz.decoders import FAMILIES

APIS = "apis"
CALLS_PER_STORE = 20_000
_AT_ONCE = 2
_TAIL_LINES = 25


def main() -> int:
    """Run as the command line asks."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="for each family")
    parser.add_argument(
        "--family", action="append", choices=[*FAMILIES, APIS], help="only this; can be repeated"
    )
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where inputs go")
    options = parser.parse_args()
    families = options.family or [*FAMILIES, APIS]
    seconds = max(1, round(options.minutes * 60))
    options.keep.mkdir(parents=True, exist_ok=True)
    run = partial(_run, seconds=seconds, keep=options.keep)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        broken = [
            family
            for family, holds in zip(families, pool.map(run, families), strict=True)
            if not holds
        ]
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)  # noqa: T201 - the answer
    return 1 if broken else 0


def _run(family: str, *, seconds: int, keep: Path) -> bool:
    """Fuzz one family; return whether all held."""
    if family == APIS:
        return asyncio.run(_call_apis(seconds))
    command = [
        *(sys.executable, "-m", "tests.fuzz.guided", family, str(keep / family)),
        *(f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-verbosity=1"),
        *(f"-artifact_prefix={keep}/{family}-", "-print_final_stats=1"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    _say(
        f"{family}: {runs[-1].split()[-1] if runs else '?'} inputs, {'ok' if done.returncode == 0 else 'BROKEN'}"
    )
    if done.returncode != 0:
        _say("\n".join(done.stderr.splitlines()[-_TAIL_LINES:]))
    return done.returncode == 0


async def _call_apis(seconds: int) -> bool:
    """Call APIs until the time is over; return whether all held."""
    until, made, seed = time.monotonic() + seconds, 0, time.time_ns()
    while time.monotonic() < until:
        choices = of_seed(seed)
        with tempfile.TemporaryDirectory(prefix="ecs-fuzz-") as directory:
            async with opened(Path(directory)) as control:
                calls = await asyncio.to_thread(ApiCalls, control.parts)
                try:
                    await calls.begin()
                    for _ in range(CALLS_PER_STORE):
                        await calls.call(choices)
                        made += 1
                        if time.monotonic() > until:
                            break
                except Defect as error:
                    _say(f"{APIS}: BROKEN, seed {seed}, call {made}: {error}")
                    return False
        seed += 1
    _say(f"{APIS}: {made} calls, ok")
    return True


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    sys.exit(main())
