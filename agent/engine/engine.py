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
from typing import TYPE_CHECKING

import structlog

from agent.engine import admissible, planner, shared_namespaces, task_commands
from agent.engine.clock import Clock
from agent.engine.holdings import Holdings
from agent.engine.launch_trace import LaunchDurations, LaunchTrace
from agent.engine.order_batch import OrderBatch
from agent.engine.ports import held_ports
from agent.engine.record_cleanup import RecordCleanup
from agent.engine.record_commits import RecordCommits
from agent.engine.restored import doubt_after_restart
from agent.engine.runner import Callbacks, Runner
from agent.engine.settings import EngineCallbacks
from agent.engine.steps import Steps
from agent.engine.task_table import TaskTable
from agent.engine.views import task_facts
from agent.engine.watcher import Watcher
from agent.errors import PayloadError
from agent.model import ids
from agent.model.resources import needs_of
from agent.model.status import DesiredStatus, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.engine.graph import Graph
    from agent.engine.live import LiveState
    from agent.engine.restored import HeldNetworks, RestoredTasks
    from agent.engine.settings import EngineSettings
    from agent.engine.tools import RecordWriter, StepTools
    from agent.model.changes import TaskChange
    from agent.model.histogram import Histogram
    from agent.model.payload import TaskPayload
    from agent.model.task import AgentTask
    from agent.model.telemetry import TaskFacts
    from agent.model.views import RepairView
    from agent.model.wire import Assignments
    from agent.resources.ledger import Ledger
    from agent.state import StateStore

_log = structlog.get_logger()


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
        self._commits = RecordCommits(store, self._runners, clock)
        self.tasks = TaskTable(self._runners, ledger, tools.groups.path_of, clock)
        """The tasks of the host, to read."""
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
            for protocol, ports in held_ports(record):
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
        known = {
            ids.container_digest(arn, name)
            for arn, runner in self._runners.items()
            for name in runner.record.containers
        }
        await self._tools.resolv_files.keep_only(known)
        await self._tools.hosts_files.keep_only(known)
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
            save=self._commits.save,
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
        taken = OrderBatch(control_id, instance, self._clock, self._ledger, len(self._runners))
        changed: list[Runner] = []
        for order in task_commands.read(assignments, self._runners):
            if order.arn in self._runners:
                self._runners[order.arn].stop(order.reason, order.stop_code, ordered=True)
                changed.append(self._runners[order.arn])
            elif order.arn in self._forgetting:
                taken.repeat(self._forgetting.last_words.again(order.arn, control_id))
            else:
                taken.add(order, await self._settings.steps.refused_by_host(order.payload))
        changed.extend(self._stop_unlisted(assignments, control_id, instance))
        changed.extend(self._adopt_listed(assignments, control_id, instance))
        if len(taken.batch):
            await self._store.commit(taken.batch)
            self._commits.save_the_rest()
        self._forgetting.refused(taken.refused)
        self._begin(taken.accepted, ordered)
        self._confirm(a.task_arn for a in assignments.tasks)
        if assignments.full:
            self._watcher.allow_removal()
        await asyncio.gather(*(runner.saved() for runner in changed))

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
        for protocol, ports in held_ports(self._runners[arn].record):
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

    def container_network_lost(self, arn: str, container: str, reason: str) -> None:
        """Tell a task that a container has lost the network of its sandbox, and why."""
        runner = self._runners.get(arn)
        if runner is not None:
            runner.container_network_lost(container, reason)

    async def flush(self) -> None:
        """Save everything unsaved; called once at a normal stop, after ``run``."""
        await self._commits.flush()

    def _acknowledged(self, change: TaskChange) -> None:
        runner = self._runners.get(change.task_arn)
        if runner is not None and change.status == TaskStatus.RUNNING.wire():
            runner.launch.acknowledged(self._clock.steady())

    # -- what others see
    # --------------------------------------------------------------------------------

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

    def knows(self, task_arn: str) -> bool:
        """Return whether the host holds this task, running or stopped."""
        return task_arn in self._runners

    def is_over(self, task_arn: str) -> bool:
        """Return whether a task has ended here and was forgotten, or was refused: nothing more comes of it."""
        return task_arn in self._forgetting

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

    @property
    def comparisons(self) -> Histogram:
        """How long comparisons with the container engine's list took."""
        return self._watcher.comparisons

    @property
    def repairs(self) -> list[RepairView]:
        """The newest repairs of containers that others changed, oldest first."""
        return list(self._tools.reconnecter.repairs)
