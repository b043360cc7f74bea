"""Plans a task: a pure function from its record to the steps that may start now.

The second half of each turn, after ``settle`` has drawn the conclusions. It returns the allowed
steps and, for everything else, the wait that explains why not. No I/O; of its arguments it changes
only the notes in ``LiveState`` on how long each wait has lasted. It cannot fail.

Source of the rules: Amazon ECS agent 1.105.1, ``agent/engine/task_manager.go`` (forward
progression, derivation of statuses, stop order). Invariants, checked by property tests: a status
never goes back, no step starts before its dependencies, and every plan of a task that should stop
ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.engine import graph as dependency_graph
from agent.engine.live import CLEAN, NETWORK, Step, StepKind, is_of_task
from agent.engine.preparations import table as preparations
from agent.engine.settle import holds_network, is_stopping
from agent.model.resources import Wait
from agent.model.status import ContainerStatus, NetworkMode, TaskStatus

if TYPE_CHECKING:
    from agent.engine.graph import Graph
    from agent.engine.live import LiveState
    from agent.model.task import AgentContainer, AgentTask


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that affect plans."""

    pull_before_dependencies: bool = False
    """``ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT``."""
    cleanup_wait_s: float = 3 * 3600.0
    confirmation_wait_s: float = 60.0
    """How long a restored task without containers waits for control to confirm it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What may start now, what to cancel, why the rest waits, and when to plan again."""

    steps: tuple[Step, ...] = ()
    cancel: frozenset[str] = frozenset()
    waits: tuple[Wait, ...] = ()
    wake_at: float | None = None
    finished: bool = False
    """The task is finished: its record may be deleted."""


def _doing(kind: StepKind, key: str) -> str:
    """Return a text for what a step does."""
    return preparations.of_step(key).doing if kind is StepKind.PREPARE else kind


def _is_admitted(record: AgentTask) -> bool:
    """Return whether it was admitted; a container proves it, even if a crash lost the record."""
    return bool(record.admitted_at) or any(_exists(c) for c in record.containers.values())


def _exists(container: AgentContainer) -> bool:
    return bool(container.runtime_id)


def plan(record: AgentTask, graph: Graph, live: LiveState, now: float, policy: Policy) -> Plan:
    """Return the plan for a settled record."""
    draft = _Draft(record, graph, live, now, policy)
    if record.known is TaskStatus.STOPPED:
        draft.clean_up()
    elif is_stopping(record):
        draft.stop()
    elif not _is_admitted(record):
        draft.await_admission()
    elif live.unconfirmed_until > now and not any(_exists(c) for c in record.containers.values()):
        draft.await_confirmation()
    elif live.network_lost:
        draft.replace_network()
    else:
        draft.launch()
    return draft.finish()


class _Draft:
    """Collects one plan; used only within ``plan``."""

    def __init__(
        self, record: AgentTask, graph: Graph, live: LiveState, now: float, policy: Policy
    ) -> None:
        self.record = record
        self.graph = graph
        self.live = live
        self.now = now
        self.policy = policy
        self.steps: list[Step] = []
        self.cancel: set[str] = set()
        self.waits: list[Wait] = []
        self.wakes: list[float] = []
        self.finished = False

    def finish(self) -> Plan:
        self.cancel.update(
            key for key, step in self.live.inflight.items() if self._is_in_vain(step)
        )
        wake_at = min((w for w in self.wakes if w > self.now), default=None)
        return Plan(
            tuple(self.steps), frozenset(self.cancel), tuple(self.waits), wake_at, self.finished
        )

    def _is_in_vain(self, step: Step) -> bool:
        """Tell whether nobody needs what a step asks of others."""
        if step.kind is StepKind.PULL:
            return self.record.containers[step.key].desired is ContainerStatus.STOPPED
        is_remote = step.kind is StepKind.PREPARE and preparations.of_step(step.key).is_remote
        return is_remote and is_stopping(self.record)

    # -- the four phases of a task ------------------------------------------------------------

    def await_admission(self) -> None:
        """Only inspect possible containers; the ledger is asked elsewhere why the task waits."""
        for name in sorted(self.live.recheck):
            self.step(StepKind.INSPECT, name)

    def await_confirmation(self) -> None:
        """Only inspect possible containers, until control has confirmed that the task is wanted."""
        self.await_admission()
        until = self.live.unconfirmed_until
        self.wakes.append(until)
        what = "control to confirm that the task is still wanted, since the agent was restarted"
        self.waits.append(Wait(what=what, since=self._since("@confirmation"), next_try=until))

    def replace_network(self) -> None:
        """Claim another sandbox once it is certain that no container has run in the lost one."""
        unclear = False
        for container in self.record.containers.values():
            step = self.live.inflight.get(container.name)
            if step is not None:
                unclear = unclear or step.kind is not StepKind.PULL
                self.waits.append(self._in_flight(step))
            elif container.name in self.live.recheck:
                unclear = True
                self.step(StepKind.INSPECT, container.name)
        if not unclear:
            self.step(StepKind.RENEW_NETWORK, NETWORK)

    def launch(self) -> None:
        if self.record.payload.mode is NetworkMode.AWSVPC and self.record.network is None:
            self.step(StepKind.CLAIM_NETWORK, NETWORK)
        to_make = any(c.known < ContainerStatus.CREATED for c in self.record.containers.values())
        if to_make:
            for key in self._unprepared():
                self.step(StepKind.PREPARE, key)
        for container in self.record.containers.values():
            self.container(container)

    def stop(self) -> None:
        everything_stopped = True
        for container in self.record.containers.values():
            if container.known is not ContainerStatus.STOPPED:
                everything_stopped = False
            self.container(container)
        claiming = self.live.inflight.get(NETWORK)
        held = holds_network(self.record, self.live)
        if everything_stopped and held and claiming is None:
            self.step(StepKind.RELEASE_NETWORK, NETWORK)

    def clean_up(self) -> None:
        held = holds_network(self.record, self.live)
        if held:
            self.step(StepKind.RELEASE_NETWORK, NETWORK)
        if not self.record.cleaned_at:
            for container in self.record.containers.values():
                self.container(container)
        due = self.live.when(self.record.stopped_at) + self.policy.cleanup_wait_s
        if self.record.cleaned_at:
            self.finished = not held and not self.live.inflight
        elif preparing := [s for s in self.live.inflight.values() if s.kind is StepKind.PREPARE]:
            self.waits.extend(map(self._in_flight, preparing))  # what it makes is to be removed
        elif due <= self.now:
            self.step(StepKind.CLEAN, CLEAN)
        else:
            self.wakes.append(due)
            what = "its containers and their logs are kept until the clean-up"
            self.waits.append(Wait(what=what, since=self.record.stopped_at, next_try=due))

    # -- one container ------------------------------------------------------------------------

    def container(self, container: AgentContainer) -> None:
        name = container.name
        step = self.live.inflight.get(name)
        if step is not None:
            self.waits.append(self._in_flight(step))
        elif name in self.live.recheck:
            self.step(StepKind.INSPECT, name)
        elif container.known is ContainerStatus.STOPPED:
            self._stop_again(container)
        elif container.desired is ContainerStatus.STOPPED:
            self._stop_container(container)
        elif name in self.live.restarting:
            self.step(StepKind.START, name)
        elif container.known < ContainerStatus.RUNNING:
            self._start_container(container)

    def _start_container(self, container: AgentContainer) -> None:
        if container.known < ContainerStatus.PULLED:
            upfront = self.policy.pull_before_dependencies
            if upfront or not self._blocked(container):
                self.step(StepKind.PULL, container.name)
        elif self._blocked(container):
            return
        elif container.known is ContainerStatus.PULLED:
            if self._host_ready(container):
                self.step(StepKind.CREATE, container.name)
        else:
            self.step(StepKind.START, container.name)

    def _blocked(self, container: AgentContainer) -> bool:
        blocked = False
        for edge in self.graph[container.name]:
            if dependency_graph.is_met(edge, self.record):
                continue
            blocked = True
            deadline = dependency_graph.start_deadline(self.record, edge, self.live.when)
            if deadline is not None:
                self.wakes.append(deadline)
            what = f"container {edge.target} to reach {edge.condition}"
            since = self._since(f"{container.name}>{edge.target}>{edge.condition}")
            self.waits.append(
                Wait(what=what, since=since, container=container.name, next_try=deadline or 0.0)
            )
        return blocked

    def _host_ready(self, container: AgentContainer) -> bool:
        if self.record.payload.mode is NetworkMode.AWSVPC and self.record.network is None:
            self.waits.append(
                Wait(
                    what="a network sandbox",
                    since=self._since(f"{container.name}>{NETWORK}"),
                    container=container.name,
                )
            )
            return False
        return not self._unprepared()

    def _unprepared(self) -> list[str]:
        wanted = preparations.wanted(self.record.payload)
        return [key for key in wanted if key not in self.live.prepared]

    def _stop_container(self, container: AgentContainer) -> None:
        holders = [
            name
            for name in dependency_graph.dependents(self.graph, container.name)
            if self.record.containers[name].known is not ContainerStatus.STOPPED
        ]
        if not holders:
            self.step(StepKind.STOP, container.name)
            return
        since = self._since(f"{container.name}>stop")
        what = f"{', '.join(holders)} to stop first"
        self.waits.append(Wait(what=what, since=since, container=container.name))

    def _stop_again(self, container: AgentContainer) -> None:
        """Stop a container that was started again after its end, but only once: see ``observe``."""
        since = self.live.astray.get(container.name)
        if since is None:
            return
        if not container.stopped_again_at:
            self.step(StepKind.STOP, container.name)
            return
        what = (
            "its end: somebody started it again after it had ended. It was stopped once more and is "
            "left alone now; its memory and ports are not booked, and it is removed with its task"
        )
        self.waits.append(Wait(what=what, since=since, container=container.name))

    # -- helpers ------------------------------------------------------------------------------

    def step(self, kind: StepKind, key: str) -> None:
        """Allow a step, unless one is in flight for the same key or its retry is not due."""
        if key in self.live.inflight:
            if is_of_task(key):
                self.waits.append(self._in_flight(self.live.inflight[key]))
            return
        retry = self.live.retries.get(key)
        if retry is not None and retry.next_at > self.now:
            self.wakes.append(retry.next_at)
            what = f"another try to {_doing(kind, key)} after {retry.attempts}: {retry.why}"
            container = "" if is_of_task(key) else key
            self.waits.append(
                Wait(what=what, since=retry.since, next_try=retry.next_at, container=container)
            )
            return
        self.steps.append(Step(kind, key))

    def _in_flight(self, step: Step) -> Wait:
        key = step.key
        container = "" if is_of_task(key) else key
        since = self.live.since.get(key, self.now)
        if step.kind is StepKind.PULL:
            return self._pull(key, since)
        doing = _doing(step.kind, key)
        what = f"the engine to {doing} it" if container else f"the host: {doing}"
        retry = self.live.retries.get(key)
        if retry is not None:
            what += f"; the last try failed: {retry.why}"
        return Wait(what=what, since=since, container=container)

    def _pull(self, key: str, since: float) -> Wait:
        definition = self.record.payload.container(key)
        what = f"the pull of {definition.image if definition else key}"
        if self.live.progress.get(key):
            what += f": {self.live.progress[key]}"
        failed = self.live.failed_pulls.get(key)
        if failed is None:
            return Wait(what=what, since=since, container=key)
        what += f"; the last try failed: {failed.reason}"
        return Wait(what=what, since=since, container=key, next_try=failed.next_at)

    def _since(self, key: str) -> float:
        return self.live.waiting_since.setdefault(key, self.now)
