"""One runner per task: the only place where a task's record changes.

Orders, engine events, finished steps and timers all arrive in its mailbox. After each, the record
is settled, planned again, and saved if control must learn of the change. A runner does nothing that
the planner has not allowed.

::

    mailbox ─► settle ─► plan ─► start steps ─► save + report (one transaction) ─┐
       ▲                              │                                         │
       └──── outcome or failure of a step, engine event, order, timer ──────────┘

Tests: ``tests/unit/engine/test_planner.py``, ``tests/unit/engine/test_engine_life.py``,
``tests/unit/engine/test_engine_restart.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.engine import failures, losses, observe, planner
from agent.engine.clock import Clock, ClockWatch
from agent.engine.live import DESTRUCTIVE, LiveState, Step, StepKind
from agent.engine.record_saver import RecordSaver
from agent.engine.settle import settle
from agent.engine.transitions import TransitionLog
from agent.engine.views import targets_of
from agent.errors import AgentError, EngineRefused, RuntimeFailure
from agent.model import reasons
from agent.model.status import ContainerStatus, DesiredStatus, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from agent.engine.graph import Graph
    from agent.engine.launch_trace import LaunchTrace
    from agent.engine.planner import Plan
    from agent.engine.record_saver import Saver
    from agent.engine.steps import Steps
    from agent.engine.tools import Outcome, RecordWriter
    from agent.metrics.targets import SampleTarget
    from agent.model.changes import TaskChange
    from agent.model.resources import Wait
    from agent.model.status import Health
    from agent.model.task import AgentTask

Message = Callable[[float], None]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The functions that a runner calls."""

    save: Saver
    running: Callable[[], None]
    """A container has started."""
    stopped: Callable[[str], None]
    """The task has stopped, and its resources are free."""
    engine_answers_since: Callable[[float], Awaitable[bool]]
    """Return whether the engine answers, and has since a monotonic time."""


class Runner:
    """Runs one task from its order to its end."""

    def __init__(
        self,
        record: AgentTask,
        graph: Graph,
        policy: planner.Policy,
        callbacks: Callbacks,
        clock: Clock,
        build_steps: Callable[[AgentTask, LiveState, RecordWriter], Steps],
        launch: LaunchTrace,
    ) -> None:
        self.record = record
        self.live = LiveState()
        self.launch = launch
        """When the task went through the phases of its launch."""
        self.finished = False
        """True once nothing is left to do for the task; messages are no longer read."""
        self._graph = graph
        self._policy = policy
        self._callbacks = callbacks
        self._clock = clock
        self._clock_watch = ClockWatch(clock)
        self._steps = build_steps(record, self.live, self)
        self._mailbox: asyncio.Queue[Message] = asyncio.Queue()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._saving = RecordSaver(record, self.live, callbacks.save, clock)
        self._targets: tuple[SampleTarget, ...] | None = None
        """Of the record as it is; None since it was changed."""
        self._released = record.is_done  # others may have the resources of a restored one by now
        self._transitions = TransitionLog(record, self.live, on_running=callbacks.running)

    @property
    def waits(self) -> tuple[Wait, ...]:
        """What the task waits for at this moment, in order.

        Computed on each call, because the text of a wait (progress of a pull, start of a retry)
        changes between turns.
        """
        now = self._clock.wall()
        waits = planner.plan(self.record, self._graph, self.live, now, self._policy).waits
        unsaved = self._saving.wait
        return waits if unsaved is None else (*waits, unsaved)

    def targets(self, group_path: Callable[[str], str]) -> tuple[SampleTarget, ...]:
        """Return what the sampler is to read of this task; made anew only after a change.

        Args:
            group_path: returns the path of a task's control group from the top of a hierarchy, by
                its ARN. It stays the same while a container of the task runs.
        """
        if self._targets is None:
            self._targets = tuple(targets_of(self.record, self.live, group_path(self.record.arn)))
        return self._targets

    # -- what others tell a runner; all return at once
    # ------------------------------------------------

    def post(self, message: Message) -> None:
        """Queue a message, which is applied to the record on the runner's turn."""
        self._mailbox.put_nowait(message)

    def admitted(self, now: float) -> None:
        """The ledger has booked what the task needs."""

        def message(_now: float) -> None:
            self.record.admitted_at = now

        self.launch.admitted(self._clock.steady())
        self.post(message)

    def stop(self, reason: str, stop_code: str, *, ordered: bool) -> None:
        """Stop the task; the first reason is kept. Durable once ``saved`` has returned.

        ``ordered`` says that control already knows, because it ordered the stop.
        """

        def message(_now: float) -> None:
            if self.record.desired is DesiredStatus.STOPPED:
                return
            self.record.desired = DesiredStatus.STOPPED
            self.record.reason = self.record.reason or reasons.clip(reason)
            self.record.stop_code = self.record.stop_code or stop_code
            self.record.stop_ordered = ordered

        self.post(message)

    def belongs_to(self, instance: str) -> None:
        """Control wants the task for this container instance. Durable once ``saved`` returned."""

        def message(_now: float) -> None:
            self.record.instance = instance

        self.post(message)

    def recheck(self, container: str) -> None:
        """Something happened to a container: inspect it."""

        def message(_now: float) -> None:
            known = self.record.containers.get(container)
            if known is not None and not self.record.cleaned_at:
                self.live.recheck.add(container)

        self.post(message)

    def health(self, container: str, value: Health) -> None:
        """The engine's health check has a new result."""

        def message(now: float) -> None:
            known = self.record.containers.get(container)
            if known is not None and known.known is ContainerStatus.RUNNING:
                observe.health(known, value, now)
            elif known is not None and known.known < ContainerStatus.RUNNING:
                self.live.recheck.add(container)  # the call that starts it has not returned yet

        self.post(message)

    def network_lost(self, reason: str) -> None:
        """The task's sandbox can no longer be used: containers in it have no network.

        A task that has started nothing claims another one.
        """

        def message(_now: float) -> None:
            losses.network(self.record, self.live, reason)

        self.post(message)

    def namespaces_lost(self, reason: str) -> None:
        """The container that holds the task's namespaces has stopped: its containers share none.

        It is started again for a task that has started nothing.
        """

        def message(_now: float) -> None:
            losses.namespaces(self.record, self.live, reason)

        self.post(message)

    def container_network_lost(self, name: str, reason: str) -> None:
        """The sandbox of one container has stopped; one that has not started is created again."""

        def message(_now: float) -> None:
            losses.container_network(self.record, self.live, name, reason)

        self.post(message)

    def confirm(self) -> None:
        """Control has confirmed that it still wants the task."""

        def message(_now: float) -> None:
            self.live.unconfirmed_until = 0.0

        if self.live.unconfirmed_until:
            self.post(message)

    async def saved(self) -> None:
        """Wait until everything posted so far has been applied and is durable.

        Raises:
            StateFailure: it has been applied, but could not be saved; the runner keeps trying.
        """
        if self.finished:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def message(_now: float) -> None:
            self._saving.answer(future)

        self.post(message)
        await future

    def save_again(self) -> None:
        """Retry failed saves now, because saving works again."""

        def message(_now: float) -> None:
            self._saving.try_again()

        self.post(message)

    def needs_save(self) -> bool:
        """Return whether there are unsaved facts."""
        return not self._saving.is_saved

    def unreported(self, now: float) -> TaskChange | None:
        """Return the report that is in no transaction yet, or None if there is none."""
        return self._saving.unreported(now)

    # -- the loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until nothing is left of the task. Cancelling leaves its containers unchanged."""
        async with asyncio.TaskGroup() as group:
            while not self.finished:
                now = self._now()
                began = self._clock.steady()
                settle(self.record, self._graph, self.live, now)
                self._targets = None
                if self.record.known is TaskStatus.RUNNING:
                    self.launch.running(began)
                self._transitions.tell()
                plan = planner.plan(self.record, self._graph, self.live, now, self._policy)
                # Steps may start before the record is saved, because whatever a crash loses can be
                # read from the engine. The exception are steps that destroy this evidence.
                if any(step.kind in DESTRUCTIVE for step in plan.steps):
                    await self._saving.save_if_due(now, all_of_it=True)
                self._carry_out(plan, group, now)
                await self._saving.save_if_due(now)
                self._release_when_stopped()
                if plan.finished and self._is_settled():
                    self.finished = True
                else:
                    await self._apply_messages(_wait_s(plan, now), began)

    def _carry_out(self, plan: Plan, group: asyncio.TaskGroup, now: float) -> None:
        for key in plan.cancel:
            if key in self._running and not self._running[key].cancelling():
                self._running[key].cancel()
        for step in plan.steps:
            if step.kind in DESTRUCTIVE and not self._saving.is_saved:
                self._hold_back(step)
                continue
            self.live.inflight[step.key] = step
            self.live.since[step.key] = now
            task = group.create_task(self._do(step), name=f"{step.kind} {step.key}")
            task.add_done_callback(partial(self._cancelled, step))
            self._running[step.key] = task

    def _hold_back(self, step: Step) -> None:
        """Delay a destructive step until the record is saved; the final report may be sent now."""
        if step.kind is StepKind.RELEASE_NETWORK and not self.live.release_tried:
            self.live.release_tried = True
            self.post(lambda _now: None)  # causes another turn

    def _is_settled(self) -> bool:
        """Return whether nobody waits for the runner and all of the task is saved."""
        return self._saving.is_reported and not self._saving.is_awaited and self._mailbox.empty()

    def _now(self) -> float:
        """Return the wall time; if the clock was set, move the waits along."""
        by_s = self._clock_watch.was_set_by()
        if by_s:
            self.live.clock_was_set(by_s)
        return self._clock.wall()

    async def _apply_messages(self, wait_s: float | None, began: float) -> None:
        """Wait for the next message or timer, then apply everything that has arrived.

        ``wait_s`` counts from ``began``, which is monotonic time.
        """
        wakes = [] if wait_s is None else [began + wait_s]
        if self._saving.wake_at is not None:
            wakes.append(self._saving.wake_at)
        try:
            left_s = max(0.0, min(wakes) - self._clock.steady()) if wakes else None
            async with asyncio.timeout(left_s):
                message = await self._mailbox.get()
        except TimeoutError:
            return
        while True:
            message(self._now())
            self._targets = None
            self._saving.note()
            if self._mailbox.empty():
                return
            message = self._mailbox.get_nowait()

    # -- steps --------------------------------------------------------------------------------

    async def _do(self, step: Step) -> None:
        """Do one step; its result, good or bad, comes back through the mailbox."""
        began = self._clock.steady()
        self.launch.began(step, began)
        try:
            outcome = await self._steps.do(step)
        except AgentError as error:
            await self._failed(step, error, began)
        except Exception as error:  # noqa: BLE001 - see below
            # A bug must fail this step only, and not end the daemon with all other tasks.
            _log.exception("bug in a step", task=self.record.arn, step=str(step.kind), key=step.key)
            await self._failed(step, EngineRefused(f"{type(error).__name__}: {error}"), began)
        else:
            self.launch.ended(step, self._clock.steady())
            self.post(lambda now: self._succeeded(step, outcome, now))

    def _cancelled(self, step: Step, task: asyncio.Task[None]) -> None:
        """A step was cancelled at any point: before its first line, or in a ping after it."""
        if task.cancelled():
            self.post(lambda _now: self._ended(step))

    def _ended(self, step: Step) -> None:
        self.live.inflight.pop(step.key, None)
        self.live.since.pop(step.key, None)
        self._running.pop(step.key, None)

    def _succeeded(self, step: Step, outcome: Outcome, now: float) -> None:
        self._ended(step)
        self.live.retries.pop(step.key, None)
        outcome(now)

    async def _failed(self, step: Step, error: AgentError, began: float) -> None:
        answers = True
        if isinstance(error, RuntimeFailure) and error.retryable:
            answers = await self._callbacks.engine_answers_since(began)
        _log.warning(
            "step failed",
            task=self.record.arn,
            step=str(step.kind),
            key=step.key,
            error=str(error),
            kind=type(error).__name__,
        )

        def message(now: float) -> None:
            self._ended(step)
            failures.apply(self.record, self.live, step, error, engine_answers=answers, now=now)

        self.post(message)

    def _release_when_stopped(self) -> None:
        if self.record.known is TaskStatus.STOPPED and not self._released:
            self._released = True
            self.live.prepared.clear()  # secrets among it: nothing is made for the task any more
            self._callbacks.stopped(self.record.arn)


def _wait_s(plan: Plan, now: float) -> float | None:
    return None if plan.wake_at is None else plan.wake_at - now
