"""The tasks of this host, to read: for operators, for the endpoint of tasks and for the sampler.

Nothing here changes a task or waits. What is returned is true at this moment; records and generators
are to be read at once, before the next await.

Tests: ``tests/unit/engine/test_engine_control.py``, ``tests/unit/engine/test_engine_life.py``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import structs

from agent.engine.settle import is_stopping
from agent.engine.task_places import place_of
from agent.engine.views import task_usage, task_view
from agent.model import ids
from agent.model.status import ContainerStatus, TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.engine.clock import Clock
    from agent.engine.runner import Runner
    from agent.engine.task_places import TaskPlace
    from agent.metrics.targets import SampleTarget
    from agent.model.resources import Wait
    from agent.model.task import AgentTask
    from agent.model.views import LaunchView, TaskUsage, TaskView
    from agent.resources.ledger import Ledger


class TaskTable:
    """All tasks that the agent holds, running and stopped."""

    def __init__(
        self,
        runners: Mapping[str, Runner],
        ledger: Ledger,
        group_path: Callable[[str], str],
        clock: Clock,
    ) -> None:
        """Read from the engine's own table of runners.

        Args:
            runners: by the task's ARN.
            ledger: knows what a queued task waits for.
            group_path: returns the path of a task's control group, by its ARN.
            clock: wall time and steady time.
        """
        self._runners = runners
        self._ledger = ledger
        self._group_path = group_path
        self._clock = clock

    def known_tasks(self) -> list[str]:
        """Return the ARNs of all tasks that the agent holds, including stopped ones."""
        return list(self._runners)

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

    def views(self) -> list[TaskView]:
        """Return every task in its current state, oldest first."""
        runners = sorted(self._runners.values(), key=lambda r: r.record.accepted_at)
        return [task_view(r.record, (*self._queueing(r.record), *r.waits)) for r in runners]

    def records(self) -> list[AgentTask]:
        """Return the records of all tasks, oldest first, to read at once."""
        runners = sorted(self._runners.values(), key=lambda r: r.record.accepted_at)
        return [runner.record for runner in runners]

    def statuses(self) -> Counter[str]:
        """Return how many tasks are PENDING, RUNNING and STOPPED; costs less than ``views``."""
        return Counter(runner.record.known.wire() for runner in self._runners.values())

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
                group = self._group_path(runner.record.arn)
                yield place_of(runner.record, runner.live, group)

    def targets(self) -> Iterable[SampleTarget]:
        """Return the targets of the sampler: every running container, and where to find it."""
        for runner in self._runners.values():
            if runner.record.known < TaskStatus.STOPPED:
                yield from runner.targets(self._group_path)
