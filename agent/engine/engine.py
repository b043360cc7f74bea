"""The task engine: every task of this host, from orders to clean-up.

It owns the runners and everything that concerns more than one task: taking orders, admission by the
ledger, dispatch of engine events, comparison with what really runs, restoring after a restart, and
forgetting tasks whose end has been acknowledged. Decisions about one task are ``planner``'s.

Restoring needs no help from control: records are read, the engine's containers are listed once, and
whatever differs is asked for. A container that runs is never touched by a restart of the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from agent.engine import admissible, inbox, planner, reports
from agent.engine import graph as dependency_graph
from agent.engine.container_body import LABEL_CONTAINER, LABEL_OWNER, LABEL_TASK
from agent.engine.ports import picked_ports
from agent.engine.runner import Callbacks, Runner, doubt_after_restart
from agent.engine.steps import Steps, StepSettings, Tools
from agent.engine.views import targets_of, task_view
from agent.errors import PayloadError, RuntimeFailure, StateFailure
from agent.model import ids, reasons, task
from agent.model.resources import needs_of
from agent.model.status import ContainerStatus, DesiredStatus, TaskStatus
from agent.state import Batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.engine.graph import Graph
    from agent.metrics.collector import SampleTarget
    from agent.model.changes import TaskChange
    from agent.model.payload import TaskPayload
    from agent.model.task import TaskRecord
    from agent.model.views import TaskView
    from agent.model.wire import Assignments
    from agent.resources.ledger import Ledger
    from agent.runtime.protocol import ContainerSummary, EngineEvent
    from agent.state import Store

KIND = "task"
"""Kind of our rows in the store."""

RELIST_S = 300.0
"""How often everything is compared with the engine even if no event was missed."""

COMPARE_RETRY_S = 5.0
"""How soon a comparison is repeated that the engine did not answer."""

FORGET_RETRY_S = 2.0

REMEMBERED_S = 600.0
"""How long a forgotten task is remembered: longer than an answer of control can be under way."""

PING_LIMIT_S = 5.0
PING_EVERY_S = 10.0
"""How soon a hanging engine is seen: nothing else tells, since its calls simply do not end."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of the engine beside those of its steps."""

    policy: planner.Policy = field(default_factory=planner.Policy)
    cleanup_jitter_s: float = 0.0


class Engine:
    """All tasks of this host.

    ``run`` must be running for anything to happen; all methods are for the event loop's thread.
    """

    def __init__(
        self,
        *,
        store: Store,
        ledger: Ledger,
        tools: Tools,
        steps: StepSettings,
        settings: EngineSettings,
        on_network_event: Callable[[EngineEvent], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.instance_status = "ACTIVE"
        self.engine_up = False
        self.on_running: Callable[[], None] = lambda: None
        """Called when a container has come up: there is something new to measure."""
        self._store = store
        self._ledger = ledger
        self._tools = tools
        self._step_settings = steps
        self._settings = settings
        self._on_network_event = on_network_event
        self._clock = clock
        self._runners: dict[str, Runner] = {}
        self._forgotten: dict[str, float] = {}
        self._finished = asyncio.Event()
        self._look_again = asyncio.Event()
        self._wanted_known = False
        """True once control has sent everything that it wants of this host."""
        self._group: asyncio.TaskGroup | None = None
        self._started = asyncio.Event()
        store.outbox.on_removed(self._finished.set)

    # -- start, run -----------------------------------------------------------------------------

    async def restore(self) -> list[str]:
        """Read the saved tasks and book what they hold; returns their ARNs.

        Rows that cannot be read are set aside by the store; they stop nothing.
        """
        for record in (await self._store.load(KIND, task.decode)).values():
            try:
                graph = admissible.check(record.payload)
            except PayloadError:
                graph = dict.fromkeys(record.containers, ())
            self._add(record, graph)
            if record.admitted_at and not record.is_done:
                self._ledger.restore(record.arn, needs_of(record.payload))
                for protocol, ports in picked_ports(record):
                    self._tools.ports.hold(protocol, ports)
        return list(self._runners)

    async def run(self) -> None:
        """Run every task until cancelled; cancelling leaves all containers as they are."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for runner in self._runners.values():
                doubt_after_restart(runner.record, runner.live)
                self._launch(runner)
            self._started.set()
            group.create_task(self._follow_events(), name="engine events")
            group.create_task(self._compare_regularly(), name="engine comparison")
            group.create_task(self._watch_engine(), name="engine watch")
            group.create_task(self._forget_acknowledged(), name="forget tasks")

    def _add(self, record: TaskRecord, graph: Graph) -> Runner:
        jitter_s = random.uniform(0, self._settings.cleanup_jitter_s)  # noqa: S311 - spreads load
        policy = planner.Policy(
            self._settings.policy.pull_before_dependencies,
            self._settings.policy.cleanup_wait_s + jitter_s,
        )
        callbacks = Callbacks(
            save=self._save,
            running=lambda: self.on_running(),  # noqa: PLW0108 - set by the daemon later
            stopped=self._on_stopped,
            ping=self._answers,
        )
        runner = Runner(record, graph, policy, callbacks, self._clock)
        runner.equip(
            lambda record, live, save: Steps(record, live, self._tools, self._step_settings, save)
        )
        self._runners[record.arn] = runner
        return runner

    def _launch(self, runner: Runner) -> None:
        if self._group is None:
            raise RuntimeError("the engine does not run")
        self._group.create_task(self._carry(runner), name=f"task {runner.record.arn}")
        if not runner.record.admitted_at and not runner.record.is_done:
            self._ledger.request(runner.record.arn, needs_of(runner.record.payload), self._clock())
            self._admit()

    async def _carry(self, runner: Runner) -> None:
        await runner.run()
        self._forgotten[runner.record.arn] = self._clock()
        self._finished.set()

    # -- orders -----------------------------------------------------------------------------------

    async def apply(self, assignments: Assignments, control_id: str) -> None:
        """Take over what control wants; durable when it returns. Safe to repeat.

        Stops come first. With a full set, tasks that the same control ordered and no longer lists
        are stopped; tasks of another control are left alone.
        """
        await self._started.wait()
        self.instance_status = assignments.instance_status
        now = self._clock()
        batch = Batch()
        stopping: list[Runner] = []
        refused: list[str] = []
        fresh: list[tuple[TaskRecord, Graph]] = []
        for order in inbox.read(assignments, self._runners.keys() | self._forgotten.keys()):
            if order.arn in self._runners:
                self._runners[order.arn].stop(order.reason, order.stop_code)
                stopping.append(self._runners[order.arn])
            elif order.arn in self._forgotten:
                continue
            elif order.payload is not None:
                fresh.append(self._accept(batch, order.payload, control_id, now))
            else:
                _log.warning("task refused", task=order.arn, reason=order.reason)
                batch.enqueue(reports.rejected(order.arn, order.reason, now, order.stop_code))
                refused.append(order.arn)
        if assignments.full:
            stopping.extend(self._stop_unlisted(assignments, control_id))
        if len(batch):
            await self._store.commit(batch)
        self._forgotten.update(dict.fromkeys(refused, now))
        for record, graph in fresh:
            if record.arn not in self._runners:
                self._launch(self._add(record, graph))
        if assignments.full and not self._wanted_known:
            self._wanted_known = True
            self._look_again.set()
        await asyncio.gather(*(runner.saved() for runner in stopping))

    def _accept(
        self, batch: Batch, payload: TaskPayload, control_id: str, now: float
    ) -> tuple[TaskRecord, Graph]:
        """Make the record of a new task; one that can never run is stopped with its reason."""
        record = task.new_record(payload, origin=control_id, now=now)
        graph: Graph = dict.fromkeys(record.containers, ())
        try:
            graph = admissible.check(record.payload)
            impossible = self._ledger.impossible(needs_of(record.payload))
        except PayloadError as error:
            impossible = str(error)
        if impossible:
            record.desired = DesiredStatus.STOPPED
            record.reason = reasons.clip(impossible)
            record.stop_code = "TaskFailedToStart"
        batch.put(KIND, ids.task_id(record.arn), task.encode(record))
        _log.info("task accepted", task=record.arn, family=record.payload.family, reason=impossible)
        return record, graph

    def _stop_unlisted(self, assignments: Assignments, control_id: str) -> list[Runner]:
        listed = {a.task_arn for a in assignments.tasks}
        stopping: list[Runner] = []
        for arn, runner in self._runners.items():
            record = runner.record
            if arn in listed or record.origin != control_id:
                continue
            if record.desired is DesiredStatus.RUNNING:
                _log.warning("task is not wanted by control any more", task=arn)
                reason = "The control endpoint no longer lists this task"
                runner.stop(reason, "UserInitiated")
                stopping.append(runner)
        return stopping

    async def stop_task(self, arn: str, reason: str) -> None:
        """Stop a task on the word of an operator at this host; durable when it returns.

        Raises:
            KeyError: no such task.
        """
        runner = self._runners[arn]
        runner.stop(reason, "UserInitiated")
        await runner.saved()

    # -- admission --------------------------------------------------------------------------------

    def _on_stopped(self, arn: str) -> None:
        self._ledger.release(arn)
        for protocol, ports in picked_ports(self._runners[arn].record):
            self._tools.ports.release(protocol, ports)
        self._admit()

    def _admit(self) -> None:
        now = self._clock()
        for arn in self._ledger.admit(now):
            runner = self._runners.get(arn)
            if runner is None or runner.record.is_done:
                self._ledger.release(arn)
            else:
                runner.admitted(now)
        for arn, runner in self._runners.items():
            if not runner.record.admitted_at:
                runner.live.admission = self._ledger.wait_of(arn)

    # -- what really happens ------------------------------------------------------------------------

    async def _follow_events(self) -> None:
        async for event in self._tools.runtime.events():
            self.engine_up = True
            if event.action == "relist":
                self._look_again.set()
            else:
                self._dispatch(event)
            if self._on_network_event is not None:
                await self._on_network_event(event)

    def _dispatch(self, event: EngineEvent) -> None:
        if event.labels.get(LABEL_OWNER) != self._step_settings.owner:
            return
        runner = self._runners.get(event.labels.get(LABEL_TASK, ""))
        name = event.labels.get(LABEL_CONTAINER, "")
        if runner is None or name not in runner.record.containers:
            return
        known = runner.record.containers[name].known
        if event.action == "health_status":
            runner.health(name, event.health)
        elif event.action in ("die", "destroy") and known is not ContainerStatus.STOPPED:
            runner.recheck(name)

    async def _compare_regularly(self) -> None:
        """Compare whenever events may have been missed, and now and then in any case."""
        wait_s = RELIST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s * random.uniform(1.0, 1.1)):  # noqa: S311 - spread
                    await self._look_again.wait()
            self._look_again.clear()
            try:
                await self._compare()
                wait_s = RELIST_S
            except RuntimeFailure as error:
                _log.warning("containers not listed, trying again soon", error=str(error))
                wait_s = COMPARE_RETRY_S

    async def _compare(self) -> None:
        """Compare every task with the engine's list; ask about what differs, remove leftovers."""
        found = await self._tools.runtime.list_containers(
            labels={LABEL_OWNER: self._step_settings.owner, LABEL_CONTAINER: None}
        )
        seen = {(c.labels.get(LABEL_TASK, ""), c.labels.get(LABEL_CONTAINER, "")): c for c in found}
        for arn, runner in self._runners.items():
            for container in runner.record.containers.values():
                summary = seen.pop((arn, container.name), None)
                state = summary.state if summary else ""
                if container.known is ContainerStatus.STOPPED:
                    continue
                running = container.known is ContainerStatus.RUNNING
                if (state == "running") != running or (
                    running and _is_judged(runner, container.name)
                ):
                    runner.recheck(container.name)
        if self._wanted_known:
            await self._remove_leftovers(seen)

    async def _remove_leftovers(self, left: dict[tuple[str, str], ContainerSummary]) -> None:
        """Remove containers of ours that belong to no task.

        Called only after control has said what it wants: an agent that lost its records (a damaged
        file, one unreadable row) is given such tasks anew and adopts their containers.
        """
        for (arn, name), summary in left.items():
            if arn in self._runners:
                continue  # ordered since the list was made
            _log.warning("removing a container of no known task", task=arn, container=name)
            try:
                await self._tools.runtime.remove_container(summary.id, force=True)
            except RuntimeFailure as error:
                _log.warning("leftover not removed", container=summary.id, error=str(error))

    def network_lost(self, arn: str) -> None:
        """Tell a task that its sandbox died."""
        runner = self._runners.get(arn)
        if runner is not None:
            runner.network_lost()

    async def _watch_engine(self) -> None:
        while True:
            await self._answers()
            await asyncio.sleep(PING_EVERY_S)

    async def _answers(self) -> bool:
        was_up = self.engine_up
        try:
            await self._tools.runtime.ping(limit_s=PING_LIMIT_S)
        except RuntimeFailure as error:
            self.engine_up = False
            if was_up:
                _log.error("the container engine does not answer; tasks wait", error=str(error))
        else:
            self.engine_up = True
            if not was_up:
                _log.info("the container engine answers")
        return self.engine_up

    # -- the end of tasks -----------------------------------------------------------------------------

    async def _forget_acknowledged(self) -> None:
        """Delete cleaned tasks once control has acknowledged their end.

        Until then the record stays, so that an old order of a control that was away for long cannot
        start the task a second time.
        """
        while True:
            await self._finished.wait()
            self._finished.clear()
            try:
                await self._forget()
            except StateFailure as error:
                _log.warning("ended tasks not forgotten, trying again", error=str(error))
                self._finished.set()
                await asyncio.sleep(FORGET_RETRY_S)

    async def _forget(self) -> None:
        now = self._clock()
        batch = Batch()
        gone: list[str] = []
        for arn, since in list(self._forgotten.items()):
            if arn in self._runners:
                if not await self._store.outbox.pending(arn):
                    batch.delete(KIND, ids.task_id(arn))
                    gone.append(arn)
            elif now - since > REMEMBERED_S:
                del self._forgotten[arn]
        if gone:
            await self._store.commit(batch)
        for arn in gone:
            del self._runners[arn]
            self._forgotten[arn] = now

    async def flush(self) -> None:
        """Save what waits for a transaction; called once at a normal stop, after ``run``."""
        batch = Batch()
        for arn, runner in self._runners.items():
            if runner.needs_save():
                batch.put(KIND, ids.task_id(arn), task.encode(runner.record))
                change = runner.unreported(self._clock())
                if change is not None:
                    batch.enqueue(change)
        if len(batch):
            await self._store.commit(batch)

    async def _save(self, record: TaskRecord, change: TaskChange | None) -> None:
        batch = Batch()
        batch.put(KIND, ids.task_id(record.arn), task.encode(record))
        if change is not None:
            batch.enqueue(change)
        await self._store.commit(batch)

    # -- what others see --------------------------------------------------------------------------------

    def known_tasks(self) -> list[str]:
        """Return the ARNs of all tasks that the agent holds, stopped ones included."""
        return list(self._runners)

    def views(self) -> list[TaskView]:
        """Return every task as it stands, oldest first."""
        runners = sorted(self._runners.values(), key=lambda r: r.record.accepted_at)
        return [task_view(r.record, r.waits) for r in runners]

    def targets(self) -> Iterable[SampleTarget]:
        """Return what there is to measure: every running container and where to find it."""
        for runner in self._runners.values():
            if runner.record.known < TaskStatus.STOPPED:
                yield from targets_of(runner.record, runner.live)


def _is_judged(runner: Runner, name: str) -> bool:
    """Tell whether a container has a health check, whose verdict may have been missed."""
    definition = runner.record.payload.container(name)
    return definition is not None and dependency_graph.has_health_check(definition)
