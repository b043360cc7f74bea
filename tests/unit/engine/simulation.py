"""A pretend host for the planner: it does the steps of a plan, in any order, well or badly.

Everything that the runner does between plans is repeated here without tasks or time, so that
hypothesis can choose what happens next. ``World`` is what really exists; the record is what the
agent believes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.engine import failures, graph, observe, planner, reports
from agent.engine.live import CLEAN, NETWORK, LiveState, Step, StepKind
from agent.engine.planner import Plan
from agent.engine.preparations.contract import Provision
from agent.engine.restored import doubt_after_restart
from agent.engine.settle import forget_creation, is_stopping, settle
from agent.errors import (
    AgentError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    NetworkFailure,
    NoSuchContainer,
    SandboxLost,
    StateFailure,
)
from agent.model import task
from agent.model.status import ContainerStatus, DesiredStatus, Health, TaskStatus
from agent.model.task import TaskNetwork
from agent.runtime.protocol import ContainerState
from tests.support.tasks import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.model.payload import TaskPayload
    from agent.model.task import AgentContainer, AgentTask

NETWORK_ANSWER = TaskNetwork(
    attachment_id="eni-1",
    mac="0a:",
    ipv4="10.0.0.2",
    prefix_len=24,
    gateway="10.0.0.1",
    hostname="h",
)
FAILURES: dict[str, Callable[[], AgentError]] = {
    "unavailable": lambda: EngineUnavailable("no answer"),
    "timeout": lambda: EngineTimeout("too slow", operation="started", limit_s=1.0),
    "refused": lambda: EngineRefused("no"),
    "network": lambda: NetworkFailure("no address"),
    "state": lambda: StateFailure("disk full"),
}


_STOPPED = ContainerStatus.STOPPED


@dataclass
class Real:
    """One container as it really is."""

    running: bool = False
    exit_code: int | None = None
    started_at: float = 0.0
    finished_at: float = 0.0
    health: Health = Health.UNKNOWN
    by_hand: bool = False
    """Somebody else started it after it had ended."""
    sandbox: int = 0
    """The one that it was made to join."""


@dataclass
class World:
    """What exists on the host, whatever the agent believes."""

    containers: dict[str, Real] = field(default_factory=dict)
    network: bool = False
    sandbox: int = 0
    """Number of the task's newest sandbox."""
    sandbox_dead: bool = False
    prepared: set[str] = field(default_factory=set)
    """What preparations made, by the keys of their steps."""

    def running(self) -> set[str]:
        """What runs because the agent started it."""
        return {n for n, real in self.containers.items() if real.running and not real.by_hand}


class Simulation:
    """One task between a planner and a world; every method is one thing that may happen."""

    def __init__(self, payload: TaskPayload, policy: planner.Policy) -> None:
        self.now = NOW
        self.world = World()
        self.record: AgentTask = task.new_record(payload, origin="c", now=NOW)
        self.graph = graph.graph_of(payload)
        self.live = LiveState()
        self.policy = policy
        self.plan = Plan()
        self.reports: list[str] = []
        self._saved = task.encode(self.record)
        self._before: bytes | None = None
        """What is on the disk while the last save is on its way and its steps have begun."""
        self._signature = reports.signature(self.record, self.live)
        self._highest: dict[str, int] = {}
        self.turn()

    # -- what the runner does ---------------------------------------------------------------------

    def turn(self) -> None:
        """Settle, save if it is due, plan, start the steps; checks every invariant on the way."""
        record = self.record
        settle(record, self.graph, self.live, self.now)
        before = task.encode(record)
        settle(record, self.graph, self.live, self.now)
        assert task.encode(record) == before, "settling twice changed something"
        self._check_forward()
        self._before = None
        signature = reports.signature(record, self.live)
        if signature != self._signature:
            self._signature = signature
            self.reports.append(record.known.wire())
            if not record.is_done:
                self._before = self._saved
            self.save()
        self.plan = planner.plan(record, self.graph, self.live, self.now, self.policy)
        for key in self.plan.cancel:
            self._ended(self.live.inflight[key])
        keys = [step.key for step in self.plan.steps]
        assert len(keys) == len(set(keys)), "two steps for one key"
        for step in self.plan.steps:
            assert step.key not in self.live.inflight, "a step for a key that is in flight"
            self._check_allowed(step)
            self.live.inflight[step.key] = step
            self.live.since[step.key] = self.now
            if step.kind is StepKind.RELEASE_NETWORK:
                self.live.release_tried = True
            if step.kind is StepKind.INSPECT:
                self.live.recheck.discard(step.key)

    def save(self) -> None:
        self._saved = task.encode(self.record)

    def _ended(self, step: Step) -> None:
        self.live.inflight.pop(step.key, None)
        self.live.since.pop(step.key, None)

    # -- invariants -------------------------------------------------------------------------------

    def _check_forward(self) -> None:
        marks = {c.name: int(c.known) for c in self.record.containers.values()}
        marks["@task"] = int(self.record.known)
        for name, value in marks.items():
            before = self._highest.get(name, 0)
            made_again = (before, value) == (ContainerStatus.CREATED, ContainerStatus.PULLED)
            assert value >= before or (made_again and self.world.sandbox > 1), f"{name} went back"
        self._highest = marks
        if self.record.known is TaskStatus.STOPPED:
            assert not self.world.running(), "reported STOPPED while something runs"

    def _check_allowed(self, step: Step) -> None:
        record = self.record
        if step.kind in (StepKind.CREATE, StepKind.START) and step.key not in self.live.restarting:
            for edge in self.graph[step.key]:
                assert graph.is_met(edge, record), f"{step} before {edge}"
            assert record.desired is DesiredStatus.RUNNING, f"{step} of a stopping task"
        if step.kind is StepKind.PULL and not self.policy.pull_before_dependencies:
            assert all(graph.is_met(edge, record) for edge in self.graph[step.key])
        if step.kind is StepKind.STOP and record.containers[step.key].known is _STOPPED:
            assert not record.containers[step.key].stopped_again_at, "stopped again and again"
        elif step.kind is StepKind.STOP:
            for other in graph.dependents(self.graph, step.key):
                assert record.containers[other].known is ContainerStatus.STOPPED, (
                    f"{step} too early"
                )
        if step.kind is StepKind.RELEASE_NETWORK:
            assert not self.world.running(), "the network went before its containers"
        if step.kind is not StepKind.INSPECT and not record.admitted_at:
            assert is_stopping(record) or any(c.runtime_id for c in record.containers.values()), (
                f"{step} of a task that was not admitted"
            )

    # -- what may happen --------------------------------------------------------------------------

    def admit(self) -> None:
        if not self.record.admitted_at:
            self.record.admitted_at = self.now

    def order_stop(self) -> None:
        self.record.desired = DesiredStatus.STOPPED

    def complete(self, key: str) -> None:
        """The step in flight for a key is done and its outcome written down."""
        step = self.live.inflight[key]
        outcome = self._do(step)
        self._ended(step)
        self.live.retries.pop(key, None)
        outcome()

    def fail(self, key: str, kind: str, *, done: bool, answers: bool) -> None:
        """The step in flight fails; ``done`` tells whether the host carried it out nevertheless."""
        step = self.live.inflight[key]
        if done and kind != "refused" and step.kind is not StepKind.INSPECT:
            self._do(step)
        self._ended(step)
        if step.kind is StepKind.INSPECT:
            self.live.recheck.add(key)
        failures.apply(
            self.record, self.live, step, FAILURES[kind](), engine_answers=answers, now=self.now
        )

    def exit(self, name: str, code: int) -> None:
        """A container ends by itself; the engine's event asks for a look."""
        self._halt(self.world.containers[name], code)
        if self.record.containers[name].known is not _STOPPED or name in self.live.astray:
            self.live.recheck.add(name)

    def start_by_hand(self, name: str) -> None:
        """Somebody starts a container that the agent knows to have ended."""
        self.world.containers[name].running = self.world.containers[name].by_hand = True
        self.live.recheck.add(name)

    def startable(self) -> list[str]:
        """Containers that somebody might start again."""
        return [
            name
            for name, real in sorted(self.world.containers.items())
            if not real.running and real.started_at and self._has_ended(name)
        ]

    def _has_ended(self, name: str) -> bool:
        return self.record.containers[name].known is _STOPPED and not self.record.cleaned_at

    def judge(self, name: str, value: Health) -> None:
        """The health check has a verdict."""
        self.world.containers[name].health = value
        if self.record.containers[name].known is ContainerStatus.RUNNING:
            observe.health(self.record.containers[name], value, self.now)

    def lose_network(self) -> None:
        """The sandbox dies; its runner is told as by ``Runner.network_lost``."""
        self.world.sandbox_dead = True
        if self.record.network_held or NETWORK in self.live.inflight:
            self._doubt_network()

    def _doubt_network(self) -> None:
        self.live.network_lost = "it died"
        self.live.recheck.update(
            c.name for c in self.record.containers.values() if c.known is ContainerStatus.CREATED
        )

    def vanish(self, name: str) -> None:
        """Somebody removes a container by force."""
        del self.world.containers[name]
        if self.record.containers[name].known is not ContainerStatus.STOPPED:
            self.live.recheck.add(name)

    def crash(self, *, torn: bool = False) -> None:
        """The agent dies and comes back with what it saved last, as ``Engine.run`` does.

        ``torn``: it dies before its last save has reached the disk.
        """
        if torn and self._before is not None:
            self._saved = self._before
        self._before = None
        self.record = task.decode(self._saved)
        self._highest = {}
        self._signature = reports.signature(self.record, self.live)
        self.live = LiveState()
        doubt_after_restart(self.record, self.live)
        if self.world.network:
            self.record.network, self.record.network_held = self._network(), True
        if self.record.network_held and (self.world.sandbox_dead or not self.world.network):
            self._doubt_network()
        # The comparison with the engine's list, which comes first after a start.
        for name, real in self.world.containers.items():
            if real.running and self._has_ended(name):
                self.live.recheck.add(name)

    # -- the host ---------------------------------------------------------------------------------

    def _do(self, step: Step) -> Callable[[], None]:
        methods: dict[StepKind, Callable[[str], Callable[[], None]]] = {
            StepKind.CLAIM_NETWORK: self._claim,
            StepKind.RELEASE_NETWORK: self._release,
            StepKind.RENEW_NETWORK: self._renew,
            StepKind.PREPARE: self._prepare,
            StepKind.PULL: self._pull,
            StepKind.CREATE: self._create,
            StepKind.START: self._start,
            StepKind.STOP: self._stop,
            StepKind.INSPECT: self._inspect,
            StepKind.CLEAN: self._clean,
        }
        return methods[step.kind](step.key)

    def _claim(self, key: str) -> Callable[[], None]:
        assert key == NETWORK
        if self.world.sandbox_dead or not self.world.network:
            self.world.sandbox += 1
        self.world.network, self.world.sandbox_dead = True, False
        network = self._network()

        def outcome() -> None:
            self.record.network = network
            self.record.network_held = True

        return outcome

    def _network(self) -> TaskNetwork:
        return replace(NETWORK_ANSWER, sandbox_id=f"s{self.world.sandbox}")

    def _renew(self, key: str) -> Callable[[], None]:
        assert not any(real.started_at for real in self.world.containers.values()), (
            "another sandbox for a task that has run"
        )
        for container in self.record.containers.values():
            if container.known is ContainerStatus.CREATED:
                forget_creation(container, self.live)
        self._release(key)
        claimed = self._claim(key)

        def outcome() -> None:
            claimed()
            self.live.network_lost = ""
            self.live.networks_replaced += 1

        return outcome

    def _release(self, key: str) -> Callable[[], None]:
        assert key == NETWORK
        self.world.network, self.world.sandbox_dead = False, False

        def outcome() -> None:
            self.record.network_held = False
            self.live.network_doubtful = False
            self.live.network_lost = ""

        return outcome

    def _prepare(self, key: str) -> Callable[[], None]:
        assert key in ("@volumes", "@cgroup")
        self.world.prepared.add(key)

        def outcome() -> None:
            self.live.prepared[key] = Provision()

        return outcome

    def _pull(self, name: str) -> Callable[[], None]:
        container = self.record.containers[name]

        def outcome() -> None:
            container.known = max(container.known, ContainerStatus.PULLED)

        return outcome

    def _create(self, name: str) -> Callable[[], None]:
        container = self.record.containers[name]
        real = self.world.containers.get(name)
        if real is not None and (real.started_at or real.sandbox == self.world.sandbox):
            return lambda: self._see(container)
        self.world.containers[name] = Real(sandbox=self.world.sandbox)
        return lambda: observe.created(container, f"id-{name}", self.now)

    def _start(self, name: str) -> Callable[[], None]:
        container = self.record.containers[name]
        real = self.world.containers.get(name)
        if real is None:
            return lambda: failures.apply(
                self.record,
                self.live,
                Step(StepKind.START, name),
                NoSuchContainer("gone"),
                engine_answers=True,
                now=self.now,
            )
        if real.sandbox and (self.world.sandbox_dead or real.sandbox != self.world.sandbox):
            return lambda: failures.apply(
                self.record,
                self.live,
                Step(StepKind.START, name),
                SandboxLost("gone"),
                engine_answers=True,
                now=self.now,
            )
        if not real.running:
            real.running, real.started_at, real.exit_code = True, self.now, None
            real.health = Health.UNKNOWN
        return lambda: observe.running(container, self.live, self.now)

    def _stop(self, name: str) -> Callable[[], None]:
        real = self.world.containers.get(name)
        if real is not None:
            self._halt(real, 137)
        container = self.record.containers[name]
        if container.known is _STOPPED and real is not None:
            return lambda: observe.stopped_again(container, self.live, self.now)
        return self._inspect(name)

    def _inspect(self, name: str) -> Callable[[], None]:
        container = self.record.containers[name]
        if name not in self.world.containers:
            return lambda: observe.vanished(container, self.live, self.now)
        return lambda: self._see(container)

    def _clean(self, key: str) -> Callable[[], None]:
        assert key == CLEAN
        self.world.containers.clear()
        self.world.prepared.clear()

        def outcome() -> None:
            self.record.cleaned_at = self.now
            self.live.astray.clear()

        return outcome

    def _halt(self, real: Real, code: int) -> None:
        if real.running:
            real.running, real.exit_code, real.finished_at = False, code, self.now
            real.by_hand = False

    def _see(self, container: AgentContainer) -> None:
        real = self.world.containers.get(container.name)
        if real is None:
            observe.vanished(container, self.live, self.now)
            return
        status = "running" if real.running else "exited" if real.started_at else "created"
        seen = ContainerState(
            id=f"id-{container.name}",
            name=container.name,
            running=real.running,
            status=status,
            pid=1 if real.running else 0,
            exit_code=real.exit_code,
            started_at=real.started_at,
            finished_at=real.finished_at,
            health=real.health,
            network_mode=f"container:s{real.sandbox}" if real.sandbox else "bridge",
        )
        observe.state(self.record, container, seen, self.live, self.now)
