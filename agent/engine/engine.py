"""The task engine: every task of this host, from orders to clean-up.

It owns the runners and everything that concerns several tasks: taking orders, admission by the
ledger, and restoring after a restart. ``watcher`` observes the container engine, ``record_cleanup``
handles ended tasks, and ``planner`` decides about one task. Writes records and reports to the
store; errors of the store are raised to whoever gave the order.

Restoring works without control: records are read, the engine's containers are listed once, and
every difference is inspected. A restart of the agent never affects a running container.

Tests: ``tests/unit/engine/test_engine_life.py``, ``tests/unit/engine/test_task_host.py``.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from msgspec import structs

from agent.engine import admissible, planner, reports, shared_namespaces, task_commands
from agent.engine.clock import Clock
from agent.engine.holdings import Holdings
from agent.engine.launch_trace import LaunchDurations, LaunchTrace
from agent.engine.ports import picked_ports
from agent.engine.record_cleanup import RecordCleanup
from agent.engine.restored import KIND
from agent.engine.runner import Callbacks, Runner, doubt_after_restart
from agent.engine.settle import is_stopping
from agent.engine.steps import Steps
from agent.engine.task_places import place_of
from agent.engine.views import task_facts, task_usage, task_view
from agent.engine.watcher import Watcher
from agent.errors import PayloadError, StateFailure
from agent.model import ids, reasons, task
from agent.model.resources import needs_of
from agent.model.status import ContainerStatus, DesiredStatus, TaskStatus
from agent.state import Batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from agent.engine.graph import Graph
    from agent.engine.live import LiveState
    from agent.engine.restored import HeldNetworks, RestoredTasks
    from agent.engine.task_places import TaskPlace
    from agent.engine.tools import RecordWriter, StepSettings, StepTools
    from agent.metrics.targets import SampleTarget
    from agent.model.changes import TaskChange
    from agent.model.histogram import Histogram
    from agent.model.payload import TaskPayload
    from agent.model.resources import Wait
    from agent.model.task import AgentTask
    from agent.model.telemetry import TaskFacts
    from agent.model.views import LaunchView, RepairView, TaskUsage, TaskView
    from agent.model.wire import Assignments
    from agent.resources.ledger import Ledger
    from agent.runtime.protocol import EngineEvent
    from agent.state import StateStore

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How tasks are carried out."""

    steps: StepSettings
    policy: planner.Policy = field(default_factory=planner.Policy)
    cleanup_jitter_s: float = 0.0


def _ignore(*_: object) -> None:
    """Stand for a callback that nobody needs."""


async def _nothing_to_remove(_arns: list[str]) -> None:
    """Stand for a host without anything beside its containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCallbacks:
    """Functions that the task engine calls; none may block."""

    running: Callable[[], None] = _ignore
    """Called when a container has started, so that it can be measured."""
    engine_event: Callable[[EngineEvent], None] = _ignore
    """Called with every event of the container engine."""
    listed: Callable[[list[str]], Awaitable[None]] = _nothing_to_remove
    """Called once, with all tasks of the host, when control has listed what it wants here; what belongs
    to no task may then be removed. Called again after an ``AgentError``."""


_NOBODY = EngineCallbacks()


class Engine:
    """All tasks of this host.

    Nothing happens unless ``run`` is running; call all methods on the event loop's thread.
    """

    def __init__(
        self,
        *,
        store: StateStore,
        ledger: Ledger,
        tools: StepTools,
        settings: EngineSettings,
        restored: RestoredTasks,
        callbacks: EngineCallbacks = _NOBODY,
        clock: Clock | None = None,
    ) -> None:
        """Take over what an earlier process left; nothing happens before ``run``.

        Args:
            store: keeps the records.
            ledger: admits tasks to the host's resources.
            tools: carry out the steps.
            settings: how.
            restored: the tasks of an earlier process.
            callbacks: who is told what.
            clock: wall time and steady time.
        """
        self.instance_status = "ACTIVE"
        self._store = store
        self._ledger = ledger
        self._tools = tools
        self._settings = settings
        self._callbacks = callbacks
        self._clock = clock = clock or Clock()
        self._runners: dict[str, Runner] = {}
        self._unsaved: set[str] = set()
        """Tasks for which the last save of the record failed."""
        self._watcher = Watcher(
            tools.runtime,
            self._runners,
            owner=settings.steps.owner,
            steady=clock.steady,
            on_event=callbacks.engine_event,
            on_cleared=lambda: callbacks.listed(list(self._runners)),
        )
        self.launches = LaunchDurations()
        """How long the phases of launches took."""
        store.outbox.on_acknowledged(self._acknowledged)
        self._forgetting = RecordCleanup(store, self._runners, restored.ended, clock.steady)
        self.holdings = Holdings(self._runners, self._forgetting, self._watcher, clock)
        self._group: asyncio.TaskGroup | None = None
        self._started = asyncio.Event()
        for record in restored.records:
            self._restore(record, restored.networks)

    @property
    def engine_up(self) -> bool:
        """Whether the last call to the container engine was answered."""
        return self._watcher.engine_up

    # -- start, run -----------------------------------------------------------------------------

    def _restore(self, record: AgentTask, networks: HeldNetworks | None) -> None:
        """Restore a task of an earlier process, and book its resources."""
        try:
            graph = admissible.check(record.payload)
        except PayloadError:
            graph = dict.fromkeys(record.containers, ())
        runner = self._add(record, graph, LaunchTrace(self.launches))
        doubt_after_restart(record, runner.live)
        if record.desired is DesiredStatus.RUNNING:
            wait_s = self._settings.policy.confirmation_wait_s
            runner.live.unconfirmed_until = self._clock.wall() + wait_s
        if not record.is_done:
            self._expect_credentials(record.payload)
        if record.admitted_at and not record.is_done:
            self._ledger.restore(record.arn, needs_of(record.payload))
            for protocol, ports in picked_ports(record):
                self._tools.ports.hold(protocol, ports)
        lost = networks.correct(record) if networks is not None else ""
        if lost:
            runner.network_lost(lost)

    def _expect_credentials(self, payload: TaskPayload) -> None:
        """Take note of the credentials of a restored task, which control will send again."""
        for known in (payload.role_credentials, payload.execution_role_credentials):
            if known is not None:
                self._tools.role_credentials.expect(payload.arn, known.credentials_id)

    async def run(self) -> None:
        """Run every task until cancelled; cancelling leaves all containers unchanged."""
        await self._tools.resolv_files.keep_only(
            ids.container_digest(arn, name)
            for arn, runner in self._runners.items()
            for name in runner.record.containers
        )
        async with asyncio.TaskGroup() as group:
            self._group = group
            for runner in self._runners.values():
                self._launch(runner)
            self._started.set()
            group.create_task(self._watcher.run(), name="engine watch")
            group.create_task(self._forgetting.run(), name="forget tasks")

    def _add(self, record: AgentTask, graph: Graph, launch: LaunchTrace) -> Runner:
        jitter_s = random.uniform(0, self._settings.cleanup_jitter_s)  # noqa: S311 - spreads load
        policy = planner.Policy(
            self._settings.policy.pull_before_dependencies,
            self._settings.policy.cleanup_wait_s + jitter_s,
        )
        callbacks = Callbacks(
            save=self._save,
            running=self._callbacks.running,
            stopped=self._on_stopped,
            engine_answers_since=self._watcher.answers_since,
        )
        runner = Runner(record, graph, policy, callbacks, self._clock, self._build_steps, launch)
        self._runners[record.arn] = runner
        return runner

    def _build_steps(self, record: AgentTask, live: LiveState, writer: RecordWriter) -> Steps:
        return Steps(record, live, self._tools, self._settings.steps, writer)

    def _launch(self, runner: Runner) -> None:
        if self._group is None:
            raise RuntimeError("the engine is not running")
        self._group.create_task(self._carry(runner), name=f"task {runner.record.arn}")
        if not runner.record.admitted_at and not runner.record.is_done:
            self._ledger.request(
                runner.record.arn, needs_of(runner.record.payload), self._clock.steady()
            )
            self._admit()

    async def _carry(self, runner: Runner) -> None:
        await runner.run()
        self._tools.role_credentials.forget(runner.record.arn)
        self._forgetting.ended(runner.record.arn)

    # -- orders -----------------------------------------------------------------------------------

    async def apply(self, assignments: Assignments, control_id: str, instance: str = "") -> None:
        """Take the orders of a control; durable when it returns. Idempotent.

        Stops come first. A full set also stops the tasks that the same control ordered for the same
        container instance and no longer lists. It says nothing about the tasks of another control,
        or of an earlier instance of this host; those stay until control says that it does not want
        them.

        Args:
            assignments: what control wants.
            control_id: id of the control.
            instance: ARN of this host's container instance there; empty if ``control_id``
                identifies it.

        Raises:
            StateFailure: the orders cannot be stored now and must be sent again. Stops are carried
                out nevertheless: on a full disk they may free the space, and later ones must not
                wait for one that cannot be saved.
        """
        await self._started.wait()
        ordered = self._clock.steady()
        self.instance_status = assignments.instance_status
        now = self._clock.wall()
        batch = Batch()
        stopping: list[Runner] = []
        refused: list[str] = []
        fresh: list[tuple[AgentTask, Graph]] = []
        for order in task_commands.read(assignments, self._runners):
            if order.arn in self._runners:
                self._runners[order.arn].stop(order.reason, order.stop_code, ordered=True)
                stopping.append(self._runners[order.arn])
            elif order.arn in self._forgetting:
                # Only a control that went back to an older state orders it: send the last report
                # again.
                last = self._forgetting.last_words.again(order.arn, control_id)
                if last is not None:
                    batch.enqueue(last)
            elif order.payload is not None:
                # A time for each, because the tasks in one answer are ordered, too.
                at = self._clock.wall()
                fresh.append(self._accept(batch, order.payload, control_id, at, instance))
            else:
                _log.warning("task refused", task=order.arn, reason=order.reason)
                batch.enqueue(reports.rejected(order.arn, order.reason, now, order.stop_code))
                refused.append(order.arn)
        stopping.extend(self._stop_unlisted(assignments, control_id, instance))
        changed = [*stopping, *self._adopt_listed(assignments, control_id, instance)]
        if len(batch):
            await self._store.commit(batch)
            self._save_the_rest()
        self._forgetting.refused(refused)
        self._begin(fresh, ordered)
        self._confirm(a.task_arn for a in assignments.tasks)
        if assignments.full:
            self._watcher.allow_removal()
        await asyncio.gather(*(runner.saved() for runner in changed))

    def _accept(
        self, batch: Batch, payload: TaskPayload, control_id: str, now: float, instance: str
    ) -> tuple[AgentTask, Graph]:
        """Create the record of a new task; one that can never run is stopped with its reason."""
        record = task.new_record(payload, origin=control_id, now=now, instance=instance)
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
        batch.put(KIND, record.arn, task.encode(record))
        _log.info("task accepted", task=record.arn, family=record.payload.family, reason=impossible)
        return record, graph

    def _begin(self, fresh: Iterable[tuple[AgentTask, Graph]], ordered: float) -> None:
        stored = self._clock.steady()
        for record, graph in fresh:
            if record.arn in self._runners:
                continue
            launch = LaunchTrace(self.launches, ordered=ordered, stored=stored)
            runner = self._add(record, graph, launch)
            if self._watcher.may_have(record.arn):
                # Its record was lost but its containers exist: adopt it.
                doubt_after_restart(record, runner.live)
            self._launch(runner)

    def _confirm(self, arns: Iterable[str]) -> None:
        for arn in arns:
            if arn in self._runners:
                self._runners[arn].confirm()

    def _adopt_listed(
        self, assignments: Assignments, control_id: str, instance: str
    ) -> list[Runner]:
        """Assign listed tasks to this instance that were ordered for another one or for none."""
        adopted = []
        for assignment in assignments.tasks:
            runner = self._runners.get(assignment.task_arn)
            if runner is None or runner.record.origin != control_id:
                continue
            if runner.record.instance != instance:
                runner.belongs_to(instance)
                adopted.append(runner)
        return adopted

    def _stop_unlisted(
        self, assignments: Assignments, control_id: str, instance: str
    ) -> list[Runner]:
        records = [runner.record for runner in self._runners.values()]
        stopping = [
            self._runners[arn]
            for arn in task_commands.unlisted(assignments, records, control_id, instance)
        ]
        for runner in stopping:
            _log.warning("task is no longer wanted by control", task=runner.record.arn)
            reason = "The control endpoint no longer lists this task"
            runner.stop(reason, "UserInitiated", ordered=True)
        return stopping

    async def stop_task(self, arn: str, reason: str) -> None:
        """Stop a task because an operator at this host says so; durable when it returns.

        Raises:
            KeyError: no such task.
            StateFailure: the order could not be stored; it is carried out nevertheless.
        """
        runner = self._runners[arn]
        runner.stop(reason, "UserInitiated", ordered=False)
        await runner.saved()

    async def stop_all(self, reason: str) -> None:
        """Stop every task that should run; durable when it returns, idempotent.

        Raises:
            StateFailure: an order could not be stored; all are carried out nevertheless.
        """
        runners = [
            r for r in self._runners.values() if r.record.desired is not DesiredStatus.STOPPED
        ]
        for runner in runners:
            runner.stop(reason, "UserInitiated", ordered=False)
        for runner in runners:
            await runner.saved()

    # -- admission --------------------------------------------------------------------------------

    def _on_stopped(self, arn: str) -> None:
        self._ledger.release(arn)
        self._tools.role_credentials.stopped(arn)
        payload = self._runners[arn].record.payload
        if shared_namespaces.needs_holder(payload):
            self._tools.namespaces.release(payload)
        self._tools.container_sandboxes.release(arn)
        for protocol, ports in picked_ports(self._runners[arn].record):
            self._tools.ports.release(protocol, ports)
        self._admit()

    def _admit(self) -> None:
        now = self._clock.wall()
        for arn in self._ledger.admit(self._clock.steady()):
            runner = self._runners.get(arn)
            if runner is None or runner.record.is_done:
                self._ledger.release(arn)
            else:
                runner.admitted(now)

    def network_lost(self, arn: str, reason: str) -> None:
        """Tell a task that its network is lost, and why."""
        runner = self._runners.get(arn)
        if runner is not None:
            runner.network_lost(reason)

    def namespaces_lost(self, arn: str, reason: str) -> None:
        """Tell a task that the namespaces which its containers share are lost, and why."""
        runner = self._runners.get(arn)
        if runner is not None:
            runner.namespaces_lost(reason)

    async def flush(self) -> None:
        """Save everything unsaved; called once at a normal stop, after ``run``."""
        batch = Batch()
        for arn, runner in self._runners.items():
            if runner.needs_save():
                batch.put(KIND, arn, task.encode(runner.record))
                change = runner.unreported(self._clock.wall())
                if change is not None:
                    batch.enqueue(change)
        if len(batch):
            await self._store.commit(batch)

    async def _save(self, record: AgentTask, change: TaskChange | None) -> None:
        batch = Batch()
        batch.put(KIND, record.arn, task.encode(record))
        if change is not None:
            batch.enqueue(change)
        try:
            await self._store.commit(batch)
        except StateFailure:
            self._unsaved.add(record.arn)
            raise
        if change is not None and record.arn in self._runners:
            self._runners[record.arn].launch.reported(self._clock.steady())
        self._unsaved.discard(record.arn)
        self._save_the_rest()

    def _acknowledged(self, change: TaskChange) -> None:
        runner = self._runners.get(change.task_arn)
        if runner is not None and change.status == TaskStatus.RUNNING.wire():
            runner.launch.acknowledged(self._clock.steady())

    def _save_the_rest(self) -> None:
        """Save the other unsaved tasks now, because the disk accepts writes again."""
        while self._unsaved:
            runner = self._runners.get(self._unsaved.pop())
            if runner is not None:
                runner.save_again()

    # -- what others see
    # --------------------------------------------------------------------------------

    def known_tasks(self) -> list[str]:
        """Return the ARNs of all tasks that the agent holds, including stopped ones."""
        return list(self._runners)

    def wanted(self, control_id: str) -> list[str]:
        """Return the ARNs of this control's tasks that should run.

        A stop counts once the task's runner has taken it.
        """
        return [
            arn
            for arn, runner in self._runners.items()
            if runner.record.origin == control_id
            and runner.record.desired is DesiredStatus.RUNNING
            and not runner.record.is_done
        ]

    def wanted_images(self) -> Iterator[str]:
        """Yield the image of every container that has not stopped, with its name on the host."""
        for runner in self._runners.values():
            if runner.record.is_done:
                continue
            for definition in runner.record.payload.containers:
                container = runner.record.containers.get(definition.name)
                if container is None or container.known is not ContainerStatus.STOPPED:
                    yield definition.image
                if container is not None and container.image_name:
                    yield container.image_name

    def record(self, task_arn: str) -> AgentTask | None:
        """Return the record of a task, to be read at once and not changed; None for an unknown task."""
        runner = self._runners.get(task_arn)
        return runner.record if runner is not None else None

    def knows(self, task_arn: str) -> bool:
        """Return whether the host holds this task, running or stopped."""
        return task_arn in self._runners

    def listed(self) -> None:
        """Record that control has listed everything it wants: leftovers may be removed."""
        self._confirm(self._runners)
        self._watcher.allow_removal()

    def facts(self) -> list[TaskFacts]:
        """Return the facts for telemetry of every task that has not stopped."""
        return [
            task_facts(runner.record)
            for runner in self._runners.values()
            if not runner.record.is_done
        ]

    def views(self) -> list[TaskView]:
        """Return every task in its current state, oldest first."""
        runners = sorted(self._runners.values(), key=lambda r: r.record.accepted_at)
        return [task_view(r.record, (*self._queueing(r.record), *r.waits)) for r in runners]

    def records(self) -> list[AgentTask]:
        """Return the records of all tasks, oldest first, to read at once."""
        runners = sorted(self._runners.values(), key=lambda r: r.record.accepted_at)
        return [runner.record for runner in runners]

    def usage(self) -> list[TaskUsage]:
        """Return every task that has not stopped, without samples; costs less than ``views``."""
        return [task_usage(r.record) for r in self._runners.values() if not r.record.is_done]

    def launch(self, arn: str) -> LaunchView | None:
        """Return how a task was launched; None for one that the host does not hold."""
        runner = self._runners.get(arn)
        if runner is None:
            return None
        return runner.launch.view(runner.record, now=self._clock.steady(), wall=self._clock.wall())

    def _queueing(self, record: AgentTask) -> Iterator[Wait]:
        """Yield what a queued task needs from the ledger; this changes with every other task."""
        wait = self._ledger.wait_of(record.arn)
        if wait is not None and not record.admitted_at and not is_stopping(record):
            age_s = self._clock.steady() - wait.since
            yield structs.replace(wait, since=self._clock.wall() - age_s)

    def running_steps(self) -> Counter[str]:
        """Return how many steps of each kind run now."""
        runners = self._runners.values()
        return Counter(str(step.kind) for r in runners for step in r.live.inflight.values())

    @property
    def comparisons(self) -> Histogram:
        """How long comparisons with the container engine's list took."""
        return self._watcher.comparisons

    @property
    def repairs(self) -> list[RepairView]:
        """The newest repairs of containers that others changed, oldest first."""
        return list(self._tools.reconnecter.repairs)

    @property
    def problems(self) -> list[str]:
        """One sentence for each container that runs although it should not; mostly empty."""
        return [
            f"container {name} of task {ids.task_id(runner.record.arn)} had ended and runs again: "
            "it was started by hand, and its memory and ports are not booked; run 'docker stop "
            f"{runner.record.containers[name].engine_name}'"
            for runner in self._runners.values()
            for name in runner.live.astray
            if runner.record.containers[name].stopped_again_at
        ]

    def places(self) -> Iterable[TaskPlace]:
        """Return where the containers of every task are that has not stopped."""
        for runner in self._runners.values():
            if runner.record.known < TaskStatus.STOPPED:
                group = self._tools.groups.path_of(runner.record.arn)
                yield place_of(runner.record, runner.live, group)

    def targets(self) -> Iterable[SampleTarget]:
        """Return the targets of the sampler: every running container, and where to find it."""
        for runner in self._runners.values():
            if runner.record.known < TaskStatus.STOPPED:
                group = self._tools.groups.path_of(runner.record.arn)
                yield from runner.targets(group)
