"""Observes the host: engine events, regular comparison, and whether the engine answers.

Queries the container engine and tells runners to inspect what differs. It changes only one thing on
the host: it removes leftovers, once control has listed what it wants. An engine that does not
answer is queried again for ever; nothing is concluded from missing answers.

Tests: ``tests/unit/engine/test_engine_strays.py``, ``tests/unit/engine/test_engine_trouble.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import structlog

from agent.engine import graph as dependency_graph
from agent.engine.labels import LABEL_CONTAINER, LABEL_OWNER, LABEL_TASK
from agent.errors import AgentError, RuntimeFailure
from agent.model import figures
from agent.model.status import ContainerStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.engine.runner import Runner
    from agent.model.task import AgentContainer
    from agent.runtime.protocol import ContainerEngine, ContainerSummary, EngineEvent

RELIST_S = 300.0
"""Interval of full comparisons with the engine, even if no event was missed."""

COMPARE_RETRY_S = 5.0
"""Pause before repeating a comparison that the engine did not answer."""

DISCONNECTED_FOR_S = 0.15
"""How long a container may be disconnected before it is inspected."""

PING_LIMIT_S = 5.0
PING_EVERY_S = 10.0
"""Interval of pings, which are the only way to notice a hanging engine: its calls just do not
end."""

_RUNS = frozenset({"running", "paused", "restarting"})
"""States in which a container has processes, or will soon have some again."""

_log = structlog.get_logger()


class Watcher:
    """Keeps the runners informed of what the container engine does.

    ``runners`` is the engine's own table, read whenever something happens.
    """

    def __init__(
        self,
        runtime: ContainerEngine,
        runners: Mapping[str, Runner],
        *,
        owner: str,
        steady: Callable[[], float],
        on_event: Callable[[EngineEvent], None],
        on_cleared: Callable[[], Awaitable[None]],
    ) -> None:
        """Take the parts; nothing is watched before ``run``.

        Args:
            runtime: the container engine.
            runners: the runners to notify.
            owner: identifies our containers.
            steady: monotonic clock, in seconds.
            on_event: called for every event.
            on_cleared: called once, when control has listed what it wants and the leftovers are
                gone; after an ``AgentError`` it is called again at the next comparison.
        """
        self.engine_up = False
        self.comparisons = figures.comparisons()
        """How long comparisons with the engine's list took."""
        self._up_since = 0.0
        """Monotonic time at which it started to answer; valid while it is up."""
        self._steady = steady
        self._runtime = runtime
        self._runners = runners
        self._owner = owner
        self._on_event = on_event
        self._look_again = asyncio.Event()
        self._disconnected: dict[str, None] = {}
        """Ids of containers that were just disconnected from a network."""
        self._some_disconnected = asyncio.Event()
        self._wanted_known = False
        """True once control has listed everything that it wants on this host."""
        self._unknown: set[str] | None = None
        """Tasks without a record that have containers in the engine; None before the first
        comparison."""
        self._kept: frozenset[str] | None = frozenset()
        """Tasks without a record whose containers are kept; None while this is unknown."""
        self._on_cleared = on_cleared
        self._cleared = False

    async def run(self) -> None:
        """Follow, compare and ping until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_events(), name="engine events")
            group.create_task(self._compare_regularly(), name="engine comparison")
            group.create_task(self._watch_engine(), name="engine watch")
            group.create_task(self._look_after_disconnected(), name="engine networks")

    def allow_removal(self) -> None:
        """Control has listed everything that it wants: leftovers may be removed."""
        if not self._wanted_known:
            self._wanted_known = True
            self._look_again.set()

    def may_have(self, arn: str) -> bool:
        """Return whether the engine may have containers of a task that has no record yet."""
        return self._unknown is None or arn in self._unknown

    async def _follow_events(self) -> None:
        async for event in self._runtime.events():
            self._heard()
            if event.action == "relist":
                self._look_again.set()
            else:
                self._dispatch(event)
            self._on_event(event)

    def _dispatch(self, event: EngineEvent) -> None:
        if event.action == "disconnect":
            self._disconnected[event.container_id] = None
            self._some_disconnected.set()
            return
        if event.labels.get(LABEL_OWNER) != self._owner:
            return
        runner = self._runners.get(event.labels.get(LABEL_TASK, ""))
        name = event.labels.get(LABEL_CONTAINER, "")
        if runner is None or name not in runner.record.containers:
            if event.action == "start":
                self._look_again.set()  # somebody started a leftover
            return
        ended = runner.record.containers[name].known is ContainerStatus.STOPPED
        if event.action == "health_status":
            runner.health(name, event.health)
        elif event.action == "start":
            # The call that starts a container reports its start; after its end, others started it.
            if ended:
                runner.recheck(name)
        elif event.action in ("die", "destroy") and (not ended or name in runner.live.astray):
            runner.recheck(name)

    async def _look_after_disconnected(self) -> None:
        """Inspect running containers that were disconnected from a network.

        The end of a container also disconnects it, just before the event of its end. So only
        containers that still run a moment later are inspected.
        """
        while True:
            await self._some_disconnected.wait()
            await asyncio.sleep(DISCONNECTED_FOR_S)
            self._some_disconnected.clear()
            gone, self._disconnected = self._disconnected, {}
            for runner in self._runners.values():
                for container in runner.record.containers.values():
                    if container.runtime_id in gone and _is_to_run(container):
                        runner.recheck(container.name)

    async def _compare_regularly(self) -> None:
        """Compare whenever events may have been missed, and regularly in any case."""
        wait_s = RELIST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s * random.uniform(1.0, 1.1)):  # noqa: S311 - spread
                    await self._look_again.wait()
            self._look_again.clear()
            began = self._steady()
            try:
                await self._compare()
                self.comparisons.observe(self._steady() - began)
                wait_s = RELIST_S
            except AgentError as error:
                _log.warning("comparison failed, trying again soon", error=str(error))
                wait_s = COMPARE_RETRY_S

    async def unclaimed(self) -> set[str]:
        """Return the ARNs of tasks without a record that have containers in the engine.

        Raises:
            RuntimeFailure: the engine does not answer.
        """
        found = await self._runtime.list_containers(
            labels={LABEL_OWNER: self._owner, LABEL_CONTAINER: None}
        )
        return {c.labels.get(LABEL_TASK, "") for c in found} - self._runners.keys()

    def keep(self, task_arns: frozenset[str] | None) -> None:
        """Leave the containers of these tasks without records alone; None for all such tasks."""
        self._kept = task_arns
        self._look_again.set()

    async def _compare(self) -> None:
        """Compare every task with the engine's list; inspect differences, remove leftovers."""
        found = await self._runtime.list_containers(
            labels={LABEL_OWNER: self._owner, LABEL_CONTAINER: None}
        )
        seen = {(c.labels.get(LABEL_TASK, ""), c.labels.get(LABEL_CONTAINER, "")): c for c in found}
        for arn, runner in self._runners.items():
            for container in runner.record.containers.values():
                summary = seen.pop((arn, container.name), None)
                is_cut_off = bool(summary and summary.cut_off_from and _is_to_run(container))
                if is_cut_off or _differs(runner, container, summary.state if summary else ""):
                    runner.recheck(container.name)
        self._unknown = {arn for arn, _ in seen}
        if self._wanted_known:
            await self._remove_leftovers(seen)
            # Things that belong to a kept container, such as its sandbox, have no record either.
            if not self._cleared and self._kept is not None and not self._kept & self._unknown:
                await self._on_cleared()
                self._cleared = True

    async def _remove_leftovers(self, left: dict[tuple[str, str], ContainerSummary]) -> None:
        """Remove containers of ours that belong to no task.

        Called only after control has listed what it wants: an agent that lost records (a damaged
        file, an unreadable row) gets those tasks again and adopts their containers.
        """
        for (arn, name), summary in left.items():
            if arn in self._runners:
                continue  # ordered since the list was read
            if self._kept is None or arn in self._kept:
                continue
            _log.warning("removing a container of an unknown task", task=arn, container=name)
            try:
                await self._runtime.remove_container(summary.id, force=True)
            except RuntimeFailure as error:
                _log.warning("leftover not removed", container=summary.id, error=str(error))

    async def _watch_engine(self) -> None:
        while True:
            await self.answers()
            await asyncio.sleep(PING_EVERY_S)

    async def answers(self) -> bool:
        """Ask whether the engine answers; log when that changes."""
        was_up = self.engine_up
        try:
            await self._runtime.ping(limit_s=PING_LIMIT_S)
        except RuntimeFailure as error:
            self.engine_up = False
            if was_up:
                _log.error("the container engine does not answer; tasks wait", error=str(error))
        else:
            self._heard()
            if not was_up:
                _log.info("the container engine answers again")
        return self.engine_up

    async def answers_since(self, began: float) -> bool:
        """Return whether the engine has answered from ``began`` (monotonic time) until now.

        A call that timed out says nothing about its container if the engine hung during it.
        """
        return await self.answers() and self._up_since <= began

    def _heard(self) -> None:
        if not self.engine_up:
            self._up_since = self._steady()
        self.engine_up = True


def _is_to_run(container: AgentContainer) -> bool:
    known, desired = container.known, container.desired
    return known is ContainerStatus.RUNNING and desired is not ContainerStatus.STOPPED


def _differs(runner: Runner, container: AgentContainer, state: str) -> bool:
    """Return whether a container must be inspected, by its state in the engine's list."""
    if container.known is ContainerStatus.STOPPED:
        return (state in _RUNS) != (container.name in runner.live.astray)
    running = container.known is ContainerStatus.RUNNING
    return (state == "running") != running or (running and _is_judged(runner, container.name))


def _is_judged(runner: Runner, name: str) -> bool:
    """Return whether a container has a health check, whose result may have been missed."""
    definition = runner.record.payload.container(name)
    return definition is not None and dependency_graph.has_health_check(definition)
