"""The phases of a task's launch with their times, from its order to control's acknowledgement.

A trace is kept beside the record while the process lives (``live``). A launch pays one reading of the
monotonic clock for each end of a phase. What happened before a restart of the agent is not known,
except for the times of the record. Nothing is added after the task has first been RUNNING and that was
acknowledged, so that restarts of containers do not make a trace grow.

Tests: ``tests/unit/engine/test_launch_trace.py``, ``tests/integration/e2e/test_host_views.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.engine.live import NETWORK, StepKind
from agent.model.histogram import Histogram
from agent.model.views import LaunchPhase, LaunchView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.engine.live import Step
    from agent.model.task import AgentTask

STORE: Final = "store"
"""From the order's arrival until it is on disk."""
ADMIT: Final = "admit"
"""From then until the ledger has room for the task."""
RUN: Final = "run"
"""The whole launch: from the order until all containers of the task run."""
REPORT: Final = "report"
"""From RUNNING until the report of it is on disk."""
ACKNOWLEDGE: Final = "acknowledge"
"""From then until control has acknowledged it."""
OF_STEPS: Final[Mapping[StepKind, str]] = {
    StepKind.CLAIM_NETWORK: "network",
    StepKind.RENEW_NETWORK: "network",
    StepKind.PREPARE: "prepare",
    StepKind.PULL: "pull",
    StepKind.CREATE: "create",
    StepKind.START: "start",
}
"""The steps that belong to a launch, and the name of their phase."""
PHASES: Final = (STORE, ADMIT, *dict.fromkeys(OF_STEPS.values()), RUN, REPORT, ACKNOWLEDGE)
BOUNDS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip


class LaunchDurations:
    """How long the phases of all launches took, since the agent started."""

    def __init__(self) -> None:
        """Begin with no launches."""
        self.by_phase: dict[str, Histogram] = {phase: Histogram(BOUNDS_S) for phase in PHASES}
        """In seconds. A phase of a container or preparation counts once for each."""

    def observe(self, phase: str, duration_s: float) -> None:
        """Count a phase that has ended."""
        self.by_phase[phase].observe(duration_s)


class _Span:
    """The tries of one step: from the beginning of the first to the end of the last."""

    __slots__ = ("began", "ended", "tries")

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended: float | None = None
        """None while a try runs, or waits for its next one."""
        self.tries = 1


class LaunchTrace:
    """The launch of one task. All times are monotonic; None for what is not known or not yet."""

    __slots__ = (
        "_acknowledged", "_admitted", "_durations", "_ordered", "_reported", "_restored", "_running",
        "_spans", "_stored",
    )  # fmt: skip

    def __init__(
        self,
        durations: LaunchDurations,
        *,
        ordered: float | None = None,
        stored: float | None = None,
    ) -> None:
        """Begin the trace of a task.

        Args:
            durations: where phases are counted when they end.
            ordered: when its order arrived; None for a task of an earlier process.
            stored: when it was on disk.
        """
        self._durations = durations
        self._restored = ordered is None
        self._ordered = ordered
        self._stored = stored
        self._admitted: float | None = None
        self._running: float | None = None
        self._reported: float | None = None
        self._acknowledged: float | None = None
        self._spans: dict[Step, _Span] = {}
        if ordered is not None and stored is not None:
            durations.observe(STORE, stored - ordered)

    def admitted(self, now: float) -> None:
        """The ledger has booked what the task needs."""
        if self._admitted is None and not self._restored:
            self._admitted = now
            if self._stored is not None:
                self._durations.observe(ADMIT, now - self._stored)

    def began(self, step: Step, now: float) -> None:
        """A step has started, perhaps again."""
        if self._running is not None or step.kind not in OF_STEPS:
            return
        span = self._spans.get(step)
        if span is None:
            self._spans[step] = _Span(now)
        else:
            span.ended = None
            span.tries += 1

    def ended(self, step: Step, now: float) -> None:
        """A step has succeeded. Tries that fail are followed by another one, or by the task's end."""
        if self._running is not None:
            return
        span = self._spans.get(step)
        if span is not None:
            span.ended = now
            self._durations.observe(OF_STEPS[step.kind], now - span.began)

    def running(self, now: float) -> None:
        """All containers of the task run; only the first time counts."""
        if self._running is not None:
            return
        self._running = now
        if self._ordered is not None:
            self._durations.observe(RUN, now - self._ordered)

    def reported(self, now: float) -> None:
        """A report is on disk; only the first one after RUNNING counts."""
        if self._running is None or self._reported is not None or self._restored:
            return
        self._reported = now
        self._durations.observe(REPORT, now - self._running)

    def acknowledged(self, now: float) -> None:
        """Control has acknowledged a report of RUNNING; only the first time counts."""
        if self._reported is None or self._acknowledged is not None:
            return
        self._acknowledged = now
        self._durations.observe(ACKNOWLEDGE, now - self._reported)

    def view(self, record: AgentTask, *, now: float, wall: float) -> LaunchView:
        """Return the trace for operators, with times relative to the order.

        Args:
            record: of the task.
            now: the monotonic time.
            wall: the same moment in Unix time.
        """
        order, running = self._ordered, self._running
        if order is None:  # by the record: right as long as nobody has set the clock
            order = now - (wall - record.accepted_at)
            ran_s = record.started_at - record.accepted_at
            running = order + ran_s if record.started_at else None
        return LaunchView(
            is_whole=not self._restored,
            ordered_at=wall - (now - order),
            now_s=_rounded(now - order),
            running_s=None if running is None else _rounded(running - order),
            phases=sorted(self._phases(order, record), key=_begin),
        )

    def _phases(self, order: float, record: AgentTask) -> Iterator[LaunchPhase]:
        if self._restored:
            yield from _recorded(record)
        else:
            yield _phase(STORE, order, self._ordered, self._stored)
            if self._stored is not None:
                yield _phase(ADMIT, order, self._stored, self._admitted)
        for step, span in self._spans.items():
            yield _phase(
                OF_STEPS[step.kind],
                order,
                span.began,
                span.ended,
                subject="" if step.key == NETWORK else step.key.removeprefix("@"),
                tries=span.tries,
            )
        if self._running is not None and not self._restored:
            yield _phase(REPORT, order, self._running, self._reported)
        if self._reported is not None:
            yield _phase(ACKNOWLEDGE, order, self._reported, self._acknowledged)


def _recorded(record: AgentTask) -> Iterator[LaunchPhase]:
    """Yield what the record knows of the phases of a task of an earlier process."""
    order = record.accepted_at
    if record.admitted_at:
        yield LaunchPhase(phase=ADMIT, ended_s=_rounded(record.admitted_at - order))
    if record.pull_started_at:
        yield _phase("pull", order, record.pull_started_at, record.pull_stopped_at or None)


def _phase(
    phase: str,
    order: float,
    began: float | None,
    ended: float | None,
    *,
    subject: str = "",
    tries: int = 1,
) -> LaunchPhase:
    return LaunchPhase(
        phase=phase,
        subject=subject,
        began_s=None if began is None else _rounded(began - order),
        ended_s=None if ended is None else _rounded(ended - order),
        tries=tries,
    )


def _begin(phase: LaunchPhase) -> float:
    """Return what phases are sorted by; the end of one whose beginning is not known."""
    return (phase.ended_s or 0.0) if phase.began_s is None else phase.began_s


def _rounded(seconds: float) -> float:
    return round(seconds, 6)
