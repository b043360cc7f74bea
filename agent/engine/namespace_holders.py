"""The containers that hold process and IPC namespaces of tasks, one for each task that needs one.

::

    ensure ──► held ──release──► removed
                │
                └── its process ends: the task is told, and ends unless it has started nothing

Names derive from tasks, so that a holder is found again after a crash. It is not one of its task's
containers: control and operators do not see it. It goes last: once the task has stopped.

Touches the container engine and ``/proc``. Fails with ``RuntimeFailure``: call again.
Tests: ``tests/unit/engine/test_namespace_holders.py``, ``tests/integration/e2e/test_shared_namespaces.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from agent.engine import shared_namespaces
from agent.engine.labels import LABEL_NAMESPACES, LABEL_OWNER, LABEL_TASK
from agent.errors import (
    EngineRefused,
    NameConflict,
    NoSuchImage,
    RuntimeFailure,
    StartForgotten,
)
from agent.model import ids
from agent.network.kernel import namespaces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable

    from agent.cgroups.groups import TaskGroups
    from agent.model.payload import TaskPayload
    from agent.model.task import AgentTask
    from agent.runtime.protocol import (
        ContainerEngine,
        ContainerState,
        ContainerSummary,
        EngineEvent,
    )

Identify = Callable[[int], "namespaces.Process | None"]

LOST: Final = "the container that holds the namespaces of the task has stopped"
RETRY_S: Final = 5.0
_log = structlog.get_logger(__name__)


class NamespaceHolders:
    """Creates, watches and removes holders. Belongs to one event loop.

    ``ensure`` and ``remove`` work whether or not ``run`` is running.
    """

    def __init__(
        self,
        runtime: ContainerEngine,
        *,
        owner: str,
        image: str,
        load_image: Callable[[], Awaitable[object]],
        records: Iterable[AgentTask] = (),
        identify: Identify = namespaces.identify,
        groups: TaskGroups | None = None,
    ) -> None:
        """Hold nothing yet; what an earlier process left is taken over once ``run`` runs.

        Args:
            runtime: runs the holders.
            owner: identifies the agent among several on one host.
            image: reference of the pause image.
            load_image: loads it again after it was removed.
            records: the tasks of an earlier process.
            identify: finds the process of a pid; blocks.
            groups: finds what an engine has forgotten.
        """
        self._identify = identify
        self._groups = groups
        self._restored = [r for r in records if shared_namespaces.needs_holder(r.payload)]
        """Until the engine has been asked which of their holders run."""
        self._runtime = runtime
        self._owner = owner
        self._image = image
        self._load_image = load_image
        self._exits = namespaces.ExitWatch()
        self._held: dict[str, str] = {}
        """Engine ids of the holders whose process runs, by task ARN."""
        self._made: set[str] = set()
        """Tasks for which this process has made a holder, or is about to."""
        self._leaving: dict[str, str] = {}
        """Names of the holders that are to be removed, by task ARN."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One for each task of which a holder is being made or removed."""
        self._lost: asyncio.Queue[str] = asyncio.Queue()
        self._to_remove = asyncio.Event()
        self._to_compare = asyncio.Event()
        self._to_compare.set()

    async def run(self, on_lost: Callable[[str, str], None]) -> None:
        """Watch the holders and remove those that are released, until cancelled.

        Args:
            on_lost: told the ARN of a task whose holder has stopped, and a reason.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell(on_lost), name="namespaces lost")
            group.create_task(self._remove_released(), name="namespaces released")
            group.create_task(self._compare_when_asked(), name="namespaces compared")

    async def ensure(self, payload: TaskPayload) -> str:
        """Return the engine id of a task's holder, which runs; creates or starts it if it does not.

        Raises:
            RuntimeFailure: the engine refused, timed out or is down.
        """
        held = self._held.get(payload.arn)
        if held is not None:
            return held
        async with self._lock(payload.arn):
            self._made.add(payload.arn)
            name = self._name(payload)
            try:
                made = await self._create(payload, name)
            except NameConflict:
                made = self._own(await self._runtime.inspect_container(name)).id
            try:
                await self._runtime.start_container(made)
            except StartForgotten:
                if self._groups is not None:
                    await self._groups.end_forgotten(payload.arn, made)
                await self._runtime.remove_container(made, force=True)
                made = await self._create(payload, name)
                await self._runtime.start_container(made)
            seen = await self._runtime.inspect_container(made)
            if not seen.running:
                why = seen.error or f"exit code {seen.exit_code}"
                text = f"the container that holds the task's namespaces ended at once: {why}"
                raise EngineRefused(text, operation="started")
            await self._watch(payload.arn, seen.id, seen.pid)
            return made

    def release(self, payload: TaskPayload) -> None:
        """Have a task's holder removed soon, now that the task has stopped; returns at once."""
        self._leaving[payload.arn] = self._name(payload)
        self._to_remove.set()

    async def remove(self, payload: TaskPayload) -> None:
        """Remove a task's holder; an absent one is success.

        Raises:
            RuntimeFailure: the engine did not remove it.
        """
        await self._remove(payload.arn, self._name(payload))

    async def reconcile(self, task_arns: Collection[str]) -> None:
        """Remove the holders of tasks that are not in the list; failures are logged.

        Call this once control has sent what it wants: before, there may be tasks of which nothing is
        known.
        """
        for summary in await self._list():
            arn = summary.labels.get(LABEL_TASK, "")
            if arn in task_arns or arn in self._made:
                continue
            try:
                await self._remove(arn, summary.id)
            except RuntimeFailure as error:
                _log.warning("leftover not removed", what=summary.name, error=str(error))

    def take_note_of(self, event: EngineEvent) -> None:
        """Look again after events that tell of holders, or that may have been missed."""
        if event.action == "relist" or (
            event.action in ("die", "destroy") and LABEL_NAMESPACES in event.labels
        ):
            self._to_compare.set()

    def close(self) -> None:
        """Watch no longer; all holders stay. May be repeated."""
        self._exits.close()

    # -- one holder -----------------------------------------------------------------------------

    def _name(self, payload: TaskPayload) -> str:
        return ids.holder_engine_name(payload.arn, payload.family, payload.version)

    async def _create(self, payload: TaskPayload, name: str) -> str:
        labels = {LABEL_TASK: payload.arn, LABEL_OWNER: self._owner, LABEL_NAMESPACES: ""}
        body = shared_namespaces.holder_body(payload, image=self._image, labels=labels)
        try:
            return await self._runtime.create_container(name, body)
        except NoSuchImage:
            _log.warning("the pause image was removed; loading it again", image=self._image)
            await self._load_image()
        return await self._runtime.create_container(name, body)

    def _own(self, seen: ContainerState) -> ContainerState:
        if seen.labels.get(LABEL_OWNER) != self._owner or LABEL_NAMESPACES not in seen.labels:
            text = f"a container named {seen.name} exists that is not this agent's; remove it"
            raise EngineRefused(text, operation="created")
        return seen

    async def _watch(self, arn: str, holder_id: str, pid: int) -> None:
        self._held[arn] = holder_id
        process = await asyncio.to_thread(self._identify, pid)
        if process is None:
            self._ended(arn)
        else:
            self._exits.add(arn, process, self._ended)

    def _ended(self, arn: str) -> None:
        """A holder has stopped by itself."""
        self._exits.discard(arn)
        if self._held.pop(arn, None) is not None and arn not in self._leaving:
            self._lost.put_nowait(arn)

    async def _remove(self, arn: str, id_or_name: str) -> None:
        async with self._lock(arn):
            self._exits.discard(arn)
            self._held.pop(arn, None)
            await self._runtime.remove_container(id_or_name, force=True)
            self._made.discard(arn)

    def _lock(self, arn: str) -> asyncio.Lock:
        return self._locks.setdefault(arn, asyncio.Lock())

    # -- all of them ----------------------------------------------------------------------------

    async def _tell(self, on_lost: Callable[[str, str], None]) -> None:
        while True:
            on_lost(await self._lost.get(), LOST)

    async def _remove_released(self) -> None:
        """Remove what is released; what resists is tried again."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._leaving else None):
                    await self._to_remove.wait()
            self._to_remove.clear()
            for arn, name in list(self._leaving.items()):
                try:
                    await self._remove(arn, name)
                except RuntimeFailure as error:
                    _log.warning("namespaces not released", task=arn, error=str(error))
                else:
                    del self._leaving[arn]

    async def _compare_when_asked(self) -> None:
        while True:
            await self._to_compare.wait()
            self._to_compare.clear()
            try:
                await self._compare()
                self._judge_restored()
            except RuntimeFailure as error:
                _log.warning("namespaces not compared, trying again soon", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._to_compare.set()

    async def _compare(self) -> None:
        """Watch the holders that run, and take note of those that have stopped."""
        expected = dict(self._held)
        listed = {summary.id: summary for summary in await self._list()}
        for summary in listed.values():
            arn = summary.labels.get(LABEL_TASK, "")
            if summary.state != "running" or arn in self._held or arn in self._leaving:
                continue
            seen = await self._runtime.inspect_container(summary.id)
            if seen.running:
                await self._watch(arn, seen.id, seen.pid)
        for arn, holder_id in expected.items():
            found = listed.get(holder_id)
            runs = found is not None and found.state in ("running", "paused")
            if not runs and self._held.get(arn) == holder_id:
                self._ended(arn)

    def _judge_restored(self) -> None:
        """Remove the holders of tasks that have stopped, and tell those whose holder is gone."""
        restored, self._restored = self._restored, []
        for record in restored:
            if record.is_done:
                self.release(record.payload)
            elif record.arn not in self._held:
                self._lost.put_nowait(record.arn)

    async def _list(self) -> list[ContainerSummary]:
        return await self._runtime.list_containers(
            labels={LABEL_OWNER: self._owner, LABEL_NAMESPACES: None}
        )
