"""One run: build the host, break it while it works, mend it, wait until it is quiet, and judge."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from tests.chaos import evidence, leftovers, oracle, plan, work_plan
from tests.chaos.conductor import Conductor
from tests.chaos.history import History
from tests.chaos.observation import observe
from tests.chaos.report import Report
from tests.chaos.scene import Scene
from tests.chaos.workload import Workload
from tests.chaos.world import start, world
from tests.support.fleet import remove_groups
from tests.support.leaks import HostSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.oracle import Violation
    from tests.chaos.world import World

_SAY_EVERY_S = 10.0
_LOOK_EVERY_S = 3.0
_START_S = 8.0
"""How long control and agents take to start and to know each other, on a machine with nothing else to do."""
_MOST_PATIENCE = 5.0


def patience(start_s: float) -> float:
    """Return how many times longer everything may take here, from how long the start took."""
    return min(max(1.0, start_s / _START_S), _MOST_PATIENCE)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    seed: int
    minutes: float
    wires: list[str]
    kinds: dict[str, plan.Kind]
    fault_gap_s: float
    work_gap_s: float
    keep: Path
    is_quiet: bool
    always_keep: bool
    within_s: float
    """How long everything may take to become as ordered, and again to end, if the machine is idle."""


def run(options: Options) -> Report:
    """Return what came of a run; its history is kept if something went wrong."""
    report = Report(options.seed, options.minutes, options.wires)
    directory = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    history = History(directory, is_quiet=options.is_quiet)
    try:
        with world(directory, history, options.seed, options.wires) as made:
            try:
                _run(made, options, report)
            except BaseException as error:
                history.note("failed", error=repr(error))
                _keep(directory, options, report)
                history.say(f"failed; the history is in {report.kept}")
                raise
            if not report.is_clean:
                report.evidence = evidence.gather(directory, report)
            if not report.is_clean or options.always_keep:
                _keep(directory, options, report)
            remove_groups(directory)  # those of tasks that were not stopped
    finally:
        history.close()
        shutil.rmtree(directory, ignore_errors=True)
    return report


def _run(made: World, options: Options, report: Report) -> None:
    history = made.history
    before = HostSnapshot.take(agents=made.directory)
    began = time.monotonic()
    start(made)
    within_s = options.within_s * patience(time.monotonic() - began)
    workload = Workload(made)
    workload.prepare()
    history.begin()
    scene = Scene(made)
    faults = plan.draw(
        options.seed,
        options.minutes,
        len(made.agents),
        kinds=options.kinds,
        gap_s=options.fault_gap_s,
    )
    acts = work_plan.draw(options.seed, options.minutes, gap_s=options.work_gap_s)
    history.say(f"seed {options.seed}: {len(faults)} faults, {len(acts)} acts of operators")
    conductor = Conductor(scene, faults)
    with _progress(conductor, workload):
        try:
            _break(conductor, workload, acts, options.minutes)
        except BaseException:
            workload.given_up.set()
            raise
    history.say(f"all is mended; waiting until it is quiet, {within_s:.0f} s at most")
    ended_s = history.now_s()
    report.violations = _until_quiet(scene, workload, report, within_s)
    report.quiet_after_s = history.now_s() - ended_s
    for violation in report.violations:
        history.note("violation", **violation._asdict())
    _fill(report, conductor, workload)
    history.say("ending all tasks")
    report.leftovers = _end(made, workload, before, report, within_s)
    report.trouble += [each for process in made.processes for each in process.unexpected]
    for kind, things in report.leftovers.items():
        history.note("left", kind=kind, things=things)


def _break(
    conductor: Conductor, workload: Workload, acts: list[work_plan.Act], minutes: float
) -> None:
    """Let faults strike while operators work; all is mended and acknowledged in the end."""
    history = workload.world.history
    working = threading.Thread(target=workload.work, args=(acts,), name="workload", daemon=True)
    with conductor:
        working.start()
        while (left_s := minutes * 60.0 - history.now_s()) > 0:
            time.sleep(min(left_s, 1.0))
    working.join()


@contextlib.contextmanager
def _progress(conductor: Conductor, workload: Workload) -> Iterator[None]:
    is_over = threading.Event()

    def tell() -> None:
        while not is_over.wait(_SAY_EVERY_S):
            waiting = sum(1 for each in workload.orders if each.acknowledged_s is None)
            now = ", ".join(f"{kind} ({target})" for target, kind in sorted(conductor.now.items()))
            workload.world.history.say(
                f"orders {len(workload.orders)} ({waiting} wait), "
                f"faults {sum(conductor.struck.values())}: {now or 'none now'}"
            )

    thread = threading.Thread(target=tell, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _until_quiet(
    scene: Scene, workload: Workload, report: Report, within_s: float
) -> list[Violation]:
    """Wait until nothing violates a promise; return what still does when it can heal no more."""
    chance = random.Random(f"end {report.seed}")
    workload.settle_services({name: chance.randint(1, 4) for name in work_plan.SERVICES})
    deadline = time.monotonic() + within_s
    found: list[Violation] = []
    while time.monotonic() < deadline:
        settled = all(scene.world.is_settled(n) for n in range(len(scene.world.agents)))
        with contextlib.suppress(BotoCoreError, ClientError):
            seen = observe(scene, workload)
            found = oracle.judge(seen)
            report.starts_forgotten = oracle.count_forgotten(seen)
            report.codes_forgotten = oracle.count_codes_forgotten(seen)
            if settled and not any(each.may_heal for each in found):
                return found
            waits = [f"{each.task[-12:]} {each.what}" for each in found if each.may_heal]
            scene.history.note("not yet", told=waits)
            scene.history.say(f"{len(waits)} not yet: {next(iter(waits), 'agents have to report')}")
        time.sleep(_LOOK_EVERY_S)
    for number in range(len(scene.world.agents)):
        if not scene.world.is_settled(number):
            told = str(scene.world.status(number))[:200]
            found.append(
                oracle.Violation(oracle.LOSS, f"agent{number}", f"has not settled: {told}")
            )
    return found


def _fill(report: Report, conductor: Conductor, workload: Workload) -> None:
    starts = workload.world.engine_log.starts
    report.orders = len(workload.orders)
    report.stops = sum(1 for each in workload.orders if each.stop_acknowledged_s is not None)
    report.changes = workload.changes
    report.starts = sum(len(ids) for ids in starts.values())
    report.faults = dict(conductor.struck)
    report.boundaries = dict(conductor.at_boundary)
    report.skipped = sum(conductor.skipped.values())
    report.trouble += conductor.trouble + workload.trouble


def _end(
    made: World, workload: Workload, before: HostSnapshot, report: Report, within_s: float
) -> dict[str, list[str]]:
    """End all tasks like an operator, then agents and control; return what is left."""
    client = workload.client
    for name in work_plan.SERVICES:
        client.delete_service(service=name, force=True)
    for page in client.get_paginator("list_tasks").paginate(desiredStatus="RUNNING"):
        for arn in page["taskArns"]:
            client.stop_task(task=arn)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and not all(a.has_no_tasks() for a in made.fleet.agents):
        time.sleep(0.5)
    for process in (*made.agents, made.control):
        process.stop()
    proxies = leftovers.forgotten_proxies()
    for pid in proxies:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    report.links_forgotten = leftovers.remove_forgotten_links()
    left = leftovers.sort(before.wait_until_clean(limit_s=within_s / 2, agents=made.directory))
    report.forgotten_by_engine = len(proxies)
    if "listeners" in left:
        left["listeners"] = leftovers.with_owners(left["listeners"])
    for kind, things in leftovers.of_state(made).items():
        left[kind] = [*left.get(kind, []), *things]
    return {kind: things for kind, things in left.items() if things}


def _keep(directory: Path, options: Options, report: Report) -> None:
    kept = options.keep / f"seed-{options.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    shutil.copytree(directory, kept, ignore=shutil.ignore_patterns("*.sock", "ballast"))
    report.kept = str(kept)
