"""What a task needs next: a pure function from its record to the steps that may start now.

Two passes over a record, both without I/O. ``settle`` draws the conclusions (an essential container
has exited, so the task stops; a dependency can never be met, so its dependent fails); ``plan`` names
the steps that are allowed and, for everything else, the wait that explains why not.

Source of the rules: Amazon ECS agent 1.105.1, ``agent/engine/task_manager.go`` (forward
progression, derivation of statuses, stop order). Invariants, held by property tests: a status never
moves back, no step starts before what it depends on, and every plan of a task that is to stop ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.engine import graph as dependency_graph
from agent.model import reasons
from agent.model.resources import Wait
from agent.model.status import ContainerStatus, DesiredStatus, NetworkMode, TaskStatus

if TYPE_CHECKING:
    from agent.engine.graph import Graph
    from agent.model.task import ContainerRecord, TaskRecord

NETWORK = "@network"
VOLUMES = "@volumes"
CLEAN = "@clean"


class StepKind(StrEnum):
    """What can be done for a task; ``runner`` has one method for each."""

    CLAIM_NETWORK = "claim network"
    RELEASE_NETWORK = "release network"
    VOLUMES = "create volumes"
    PULL = "pull"
    CREATE = "create"
    START = "start"
    STOP = "stop"
    INSPECT = "inspect"
    CLEAN = "clean up"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. ``key`` is a container's name or one of NETWORK, VOLUMES, CLEAN."""

    kind: StepKind
    key: str


@dataclass(frozen=True, slots=True)
class Retry:
    """A step that failed without telling anything about its outcome."""

    attempts: int
    next_at: float
    since: float
    why: str


@dataclass(slots=True)
class Live:
    """What is true of a task only while this process lives. Lost in a crash without harm."""

    inflight: dict[str, Step] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    """When the step in flight began, by key."""
    recheck: set[str] = field(default_factory=set)
    """Containers whose real state must be asked for."""
    restarting: set[str] = field(default_factory=set)
    """Stopped containers that their restart policy wants started again."""
    retries: dict[str, Retry] = field(default_factory=dict)
    volumes_ready: bool = False
    release_tried: bool = False
    network_doubtful: bool = False
    """A claim may have been made without our knowing: it failed halfway, or a crash lost its news."""
    admission: Wait | None = None
    """Why the ledger has not admitted the task yet."""
    progress: dict[str, str] = field(default_factory=dict)
    """The newest line of a pull, by container."""
    waiting_since: dict[str, float] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    """Process ids of running containers, where they are known; metrics read by them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that change plans."""

    pull_before_dependencies: bool = False
    """``ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT``."""
    cleanup_wait_s: float = 3 * 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What may start now, what must be cancelled, why the rest waits, and when to look again."""

    steps: tuple[Step, ...] = ()
    cancel: frozenset[str] = frozenset()
    waits: tuple[Wait, ...] = ()
    wake_at: float | None = None
    finished: bool = False
    """Nothing is left of the task: its record may be deleted."""


def settle(record: TaskRecord, graph: Graph, live: Live, now: float) -> None:
    """Draw every conclusion that follows from what is known; repeated calls change nothing more."""
    _stop_when_essential_stopped(record, now)
    if not is_stopping(record):
        _fail_unreachable(record, graph, now)
        _stop_when_essential_stopped(record, now)
    if is_stopping(record):
        record.stopping_at = record.stopping_at or now
        for container in record.containers.values():
            container.desired = ContainerStatus.STOPPED
    for container in record.containers.values():
        if container.desired is ContainerStatus.STOPPED:
            live.restarting.discard(container.name)
            _stop_unstarted(record, container, live, now)
    _stop_when_essential_stopped(record, now)
    _advance_task(record, live, now)


def is_stopping(record: TaskRecord) -> bool:
    """Tell whether the task is to stop or has stopped."""
    return record.desired is DesiredStatus.STOPPED


def _stop_when_essential_stopped(record: TaskRecord, now: float) -> None:
    for definition in record.payload.containers:
        container = record.containers[definition.name]
        if not definition.essential:
            continue
        if container.known is ContainerStatus.STOPPED and not record.execution_stopped_at:
            record.execution_stopped_at = now
        if ContainerStatus.STOPPED in (container.known, container.desired):
            record.desired = DesiredStatus.STOPPED


def _fail_unreachable(record: TaskRecord, graph: Graph, now: float) -> None:
    """Stop containers whose dependency can never be met; repeated until nothing changes."""
    changed = True
    while changed:
        changed = False
        for name, edges in graph.items():
            container = record.containers[name]
            if container.known >= ContainerStatus.RUNNING:
                continue
            if container.desired is ContainerStatus.STOPPED:
                continue
            texts = (dependency_graph.failure(edge, record, name, now) for edge in edges)
            text = next((t for t in texts if t), None)
            if text:
                container.desired = ContainerStatus.STOPPED
                container.exit_code = reasons.DEPENDENCY_EXIT_CODE
                set_reason(container, reasons.named(reasons.CANNOT_START, text))
                changed = True


def _stop_unstarted(record: TaskRecord, container: ContainerRecord, live: Live, now: float) -> None:
    """A container that does not run is stopped without asking the engine.

    A create or start in flight is waited for first: its outcome decides what there is to stop.
    """
    if container.known in (ContainerStatus.RUNNING, ContainerStatus.STOPPED):
        return
    step = live.inflight.get(container.name)
    if step is not None and step.kind is not StepKind.PULL:
        return
    if container.name in live.retries and container.known >= ContainerStatus.PULLED:
        # Its create or start failed without an answer: only the engine knows what came of it.
        del live.retries[container.name]
        live.recheck.add(container.name)
    if container.name in live.recheck:
        return
    ordered_to_run = record.payload.desired_status is DesiredStatus.RUNNING
    if container.known < ContainerStatus.PULLED and is_stopping(record) and ordered_to_run:
        set_reason(container, reasons.stopped_before_pull(record.arn))
    mark_stopped(container, now)


def set_reason(container: ContainerRecord, reason: str) -> None:
    """Keep the first reason of a container: later ones are consequences."""
    if not container.reason:
        container.reason = reasons.clip(reason)


def mark_stopped(container: ContainerRecord, now: float) -> None:
    """Move a container to STOPPED, once."""
    if container.known is ContainerStatus.STOPPED:
        return
    container.known = ContainerStatus.STOPPED
    container.desired = ContainerStatus.STOPPED
    container.finished_at = container.finished_at or now


_CONTRIBUTION = {
    ContainerStatus.NONE: TaskStatus.NONE,
    ContainerStatus.MANIFEST_PULLED: TaskStatus.MANIFEST_PULLED,
    ContainerStatus.PULLED: TaskStatus.MANIFEST_PULLED,
    ContainerStatus.CREATED: TaskStatus.CREATED,
    ContainerStatus.RUNNING: TaskStatus.RUNNING,
    ContainerStatus.RESOURCES_PROVISIONED: TaskStatus.RUNNING,
    ContainerStatus.STOPPED: TaskStatus.STOPPED,
}


def _advance_task(record: TaskRecord, live: Live, now: float) -> None:
    """Raise the task's status to its least advanced container's; it never goes back."""
    least = min(
        (_CONTRIBUTION[c.known] for c in record.containers.values()), default=TaskStatus.STOPPED
    )
    if not record.containers and not is_stopping(record):
        return
    if least is TaskStatus.STOPPED:
        record.desired = DesiredStatus.STOPPED
        record.stopping_at = record.stopping_at or now
        if _holds_network(record, live) and not live.release_tried:
            return
    elif least is TaskStatus.RUNNING and record.execution_stopped_at:
        return  # held back until the rest has stopped
    if least <= record.known:
        return
    record.known = least
    if least is TaskStatus.RUNNING:
        record.started_at = record.started_at or now
    if least is TaskStatus.STOPPED:
        record.stopped_at = record.stopped_at or now


def _holds_network(record: TaskRecord, live: Live) -> bool:
    return record.network_held or live.network_doubtful


def _is_admitted(record: TaskRecord) -> bool:
    """A container that exists proves an admission that a crash has lost."""
    return bool(record.admitted_at) or any(c.runtime_id for c in record.containers.values())


def plan(record: TaskRecord, graph: Graph, live: Live, now: float, policy: Policy) -> Plan:
    """Return what may be done now for a settled record."""
    draft = _Draft(record, graph, live, now, policy)
    if record.known is TaskStatus.STOPPED:
        draft.clean_up()
    elif is_stopping(record):
        draft.stop()
    elif not _is_admitted(record):
        draft.await_admission()
    else:
        draft.launch()
    return draft.finish()


class _Draft:
    """Collects one plan; lives only during ``plan``."""

    def __init__(
        self, record: TaskRecord, graph: Graph, live: Live, now: float, policy: Policy
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
        for key, step in self.live.inflight.items():
            if step.kind is not StepKind.PULL:
                continue
            if self.record.containers[key].desired is ContainerStatus.STOPPED:
                self.cancel.add(key)
        wake_at = min((w for w in self.wakes if w > self.now), default=None)
        return Plan(
            tuple(self.steps), frozenset(self.cancel), tuple(self.waits), wake_at, self.finished
        )

    # -- the four phases of a task ------------------------------------------------------------

    def await_admission(self) -> None:
        if self.live.admission is not None:
            self.waits.append(self.live.admission)
        for name in sorted(self.live.recheck):
            self.step(StepKind.INSPECT, name)

    def launch(self) -> None:
        if self.record.payload.mode is NetworkMode.AWSVPC and self.record.network is None:
            self.step(StepKind.CLAIM_NETWORK, NETWORK)
        to_make = any(c.known < ContainerStatus.CREATED for c in self.record.containers.values())
        if to_make and self.record.payload.volumes and not self.live.volumes_ready:
            self.step(StepKind.VOLUMES, VOLUMES)
        for container in self.record.containers.values():
            self.container(container)

    def stop(self) -> None:
        everything_stopped = True
        for container in self.record.containers.values():
            if container.known is not ContainerStatus.STOPPED:
                everything_stopped = False
                self.container(container)
        claiming = self.live.inflight.get(NETWORK)
        holds_network = _holds_network(self.record, self.live)
        if everything_stopped and holds_network and claiming is None:
            self.step(StepKind.RELEASE_NETWORK, NETWORK)

    def clean_up(self) -> None:
        holds_network = _holds_network(self.record, self.live)
        if holds_network:
            self.step(StepKind.RELEASE_NETWORK, NETWORK)
        due = self.record.stopped_at + self.policy.cleanup_wait_s
        if self.record.cleaned_at:
            self.finished = not holds_network and not self.live.inflight
        elif due <= self.now:
            self.step(StepKind.CLEAN, CLEAN)
        else:
            self.wakes.append(due)
            what = "the clean-up wait; its containers and their logs are kept until then"
            self.waits.append(Wait(what=what, since=self.record.stopped_at, next_try=due))

    # -- one container ------------------------------------------------------------------------

    def container(self, container: ContainerRecord) -> None:
        name = container.name
        step = self.live.inflight.get(name)
        if step is not None:
            self.waits.append(self._in_flight(step))
        elif name in self.live.recheck:
            self.step(StepKind.INSPECT, name)
        elif container.known is ContainerStatus.STOPPED:
            return
        elif container.desired is ContainerStatus.STOPPED:
            self._stop_container(container)
        elif name in self.live.restarting:
            self.step(StepKind.START, name)
        elif container.known < ContainerStatus.RUNNING:
            self._start_container(container)

    def _start_container(self, container: ContainerRecord) -> None:
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

    def _blocked(self, container: ContainerRecord) -> bool:
        blocked = False
        for edge in self.graph[container.name]:
            if dependency_graph.is_met(edge, self.record):
                continue
            blocked = True
            deadline = dependency_graph.start_deadline(self.record, edge)
            if deadline is not None:
                self.wakes.append(deadline)
            what = f"container {edge.target} to reach {edge.condition}"
            since = self._since(f"{container.name}>{edge.target}>{edge.condition}")
            self.waits.append(
                Wait(what=what, since=since, container=container.name, next_try=deadline or 0.0)
            )
        return blocked

    def _host_ready(self, container: ContainerRecord) -> bool:
        if self.record.payload.mode is NetworkMode.AWSVPC and self.record.network is None:
            self.waits.append(
                Wait(
                    what="a network sandbox",
                    since=self._since(f"{container.name}>{NETWORK}"),
                    container=container.name,
                )
            )
            return False
        return not self.record.payload.volumes or self.live.volumes_ready

    def _stop_container(self, container: ContainerRecord) -> None:
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

    # -- helpers ------------------------------------------------------------------------------

    def step(self, kind: StepKind, key: str) -> None:
        """Allow a step unless one is in flight for the same key or its retry is not due."""
        if key in self.live.inflight:
            if key in (NETWORK, VOLUMES, CLEAN):
                self.waits.append(self._in_flight(self.live.inflight[key]))
            return
        retry = self.live.retries.get(key)
        if retry is not None and retry.next_at > self.now:
            self.wakes.append(retry.next_at)
            what = f"another try to {kind} after {retry.attempts}: {retry.why}"
            container = "" if key.startswith("@") else key
            self.waits.append(
                Wait(what=what, since=retry.since, next_try=retry.next_at, container=container)
            )
            return
        self.steps.append(Step(kind, key))

    def _in_flight(self, step: Step) -> Wait:
        key = step.key
        container = "" if key.startswith("@") else key
        what = f"the engine: {step.kind}" if container else f"the host: {step.kind}"
        if step.kind is StepKind.PULL:
            image = self.record.payload.container(key)
            what = f"the pull of {image.image if image else key}"
            if self.live.progress.get(key):
                what += f": {self.live.progress[key]}"
        since = self.live.since.get(key, self.now)
        return Wait(what=what, since=since, container=container)

    def _since(self, key: str) -> float:
        return self.live.waiting_since.setdefault(key, self.now)
