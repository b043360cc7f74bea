"""The trace of a launch: what an engine in memory did, and what is known after a restart."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from agent.cli import launch_text
from agent.engine.launch_trace import PHASES, LaunchDurations, LaunchTrace
from agent.engine.live import Step, StepKind
from agent.errors import EngineUnavailable
from agent.model import task
from tests.support.memory_engine import Fault
from tests.support.tasks import ARN, container, payload

if TYPE_CHECKING:
    from agent.model.views import LaunchView
    from tests.support.task_host import TaskHost


def names(view: LaunchView) -> list[str]:
    return [f"{phase.phase} {phase.subject}".strip() for phase in view.phases]


async def test_a_launch_is_traced_from_order_to_acknowledgement(host: TaskHost) -> None:
    host.runtime.fault("start", Fault(delay_s=0.05))
    await host.order(container("a"), network_mode="awsvpc")
    await host.until_known("RUNNING")
    await host.until(lambda: host.store.outbox.size)
    await host.deliver()
    view = host.engine.tasks.launch(ARN)
    assert view is not None
    assert view.is_whole
    known = names(view)
    assert known[:2] == ["store", "admit"]
    assert known[-2:] == ["report", "acknowledge"]
    assert {"network", "pull a", "create a", "start a"} <= set(known)
    assert all(
        p.began_s is not None and p.ended_s is not None and 0 <= p.began_s <= p.ended_s
        for p in view.phases
    )
    start = next(p for p in view.phases if p.phase == "start")
    assert (start.ended_s or 0) - (start.began_s or 0) >= 0.05
    assert view.running_s is not None
    assert start.ended_s is not None
    assert start.ended_s <= view.running_s
    # The phases cover the launch but for the turns of the runner between them.
    assert launch_text.between_s(view) < view.running_s / 2
    by_phase = host.engine.launches.by_phase
    assert {name: h.count for name, h in by_phase.items() if h.count} == dict.fromkeys(
        set(PHASES) - {"prepare"}, 1
    ) | ({"prepare": by_phase["prepare"].count} if by_phase["prepare"].count else {})
    assert (
        by_phase["run"].sum_s == view.running_s
        or abs(by_phase["run"].sum_s - view.running_s) < 1e-5
    )


async def test_tries_are_counted_and_later_restarts_are_not(host: TaskHost) -> None:
    host.runtime.fault("create", Fault(EngineUnavailable("reset"), times=2))
    await host.order(container("a"))
    await host.until_known("RUNNING")
    view = host.engine.tasks.launch(ARN)
    assert view is not None
    create = next(p for p in view.phases if p.phase == "create")
    assert create.tries == 3
    trace = host.engine._runners[ARN].launch
    trace.began(Step(StepKind.START, "a"), time.monotonic())
    later = host.engine.tasks.launch(ARN)
    assert later is not None
    assert names(later) == names(view)


async def test_after_a_restart_only_what_was_recorded_is_known(host: TaskHost) -> None:
    await host.order(container("a"))
    await host.until_known("RUNNING")
    before = host.engine.tasks.launch(ARN)
    await host.crash()
    await host.start()
    await host.until_known("RUNNING")
    view = host.engine.tasks.launch(ARN)
    assert before is not None
    assert view is not None
    assert not view.is_whole
    assert view.running_s is not None
    assert before.running_s is not None
    assert abs(view.running_s - before.running_s) < 0.5
    admit = next(p for p in view.phases if p.phase == "admit")
    assert admit.began_s is None
    assert admit.ended_s is not None
    assert not {"store", "create", "start", "report"} & {p.phase for p in view.phases}
    assert host.engine.launches.by_phase["run"].count == 0


def test_a_trace_costs_next_to_nothing() -> None:
    """Compared with the same number of empty calls, because machines differ."""
    steps = [Step(kind, "a") for kind in (StepKind.PULL, StepKind.CREATE, StepKind.START)]
    durations = LaunchDurations()
    gc.disable()
    began = time.perf_counter()
    for _ in range(500):
        trace = LaunchTrace(durations, ordered=0.0, stored=time.monotonic())
        trace.admitted(time.monotonic())
        for step in steps:
            trace.began(step, time.monotonic())
            trace.ended(step, time.monotonic())
        trace.running(time.monotonic())
        trace.reported(time.monotonic())
        trace.acknowledged(time.monotonic())
    each_s = (time.perf_counter() - began) / 500
    gc.enable()
    assert each_s < 0.001  # a launch takes a hundred times as long
    assert durations.by_phase["run"].count == 500


def test_a_phase_that_was_cut_short_stays_open() -> None:
    record = task.new_record(payload(container("a")), origin="c", now=100.0)
    trace = LaunchTrace(LaunchDurations(), ordered=10.0, stored=10.5)
    trace.admitted(11.0)
    trace.began(Step(StepKind.PULL, "a"), 11.5)
    view = trace.view(record, now=13.0, wall=200.0)
    assert (view.ordered_at, view.now_s, view.running_s) == (197.0, 3.0, None)
    pull = view.phases[-1]
    assert (pull.began_s, pull.ended_s) == (1.5, None)
