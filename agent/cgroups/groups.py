"""The control groups of tasks: one for each, made before its containers and removed after them.

Names derive from tasks, and the group above them is named after the agent, so that a group is found
again after a crash, and those of another agent on the host are left alone.

Tests: ``tests/unit/cgroups/test_groups.py``, ``tests/integration/e2e/test_task_limits.py``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog
from msgspec import Struct

from agent.cgroups import strays
from agent.cgroups.files import FileGroups
from agent.cgroups.limits import DEFAULT_PERIOD_US, limits_of
from agent.cgroups.mount import CgroupMount, of_container
from agent.cgroups.slices import SliceGroups
from agent.errors import CgroupFailure, RuntimeFailure
from agent.model import ids

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from agent.cgroups.limits import TaskLimits
    from agent.model.payload import TaskPayload
    from agent.runtime.protocol import EngineEvent, EngineInfo

T = TypeVar("T")

CALL_LIMIT_S = 30.0
"""Longer than two calls to a systemd that hangs."""
_OWNER_DIGITS = 12
_PATHS_MOST = 10_000
_log = structlog.get_logger(__name__)


class GroupDriver(Protocol):
    """One way to make groups: that of the engine's cgroup driver. Every call blocks."""

    def set_up(self) -> None:
        """Return when tasks can be limited; raises ``CgroupFailure`` or ``OSError`` if not."""

    def parent_of(self, name: str) -> str:
        """Return what the engine is told as ``CgroupParent``."""

    def path_of(self, name: str) -> str:
        """Return where a task's group is, from the top of a hierarchy."""

    def apply(self, name: str, limits: TaskLimits) -> None:
        """Make a group with these limits, or give them to one that exists."""

    def names(self) -> set[str]:
        """Return the names of all groups of this agent's tasks."""

    def remove(self, name: str) -> None:
        """Remove a group; an absent one is success."""

    def leave(self) -> None:
        """Remove what is above the groups of tasks, if there are none."""


class GroupSettings(Struct, frozen=True, kw_only=True):
    """What decides how tasks are limited."""

    owner: str
    """Names this agent among several on one host."""
    root: Path
    """``ECS_CGROUP_PATH``."""
    enabled: bool = True
    """False with ``ECS_ENABLE_TASK_CPU_MEM_LIMIT=false``."""
    period_us: int = DEFAULT_PERIOD_US
    """``ECS_CGROUP_CPU_PERIOD``."""
    pids: int = 0
    """``ECS_TASK_PIDS_LIMIT``; 0 for none."""
    propagate_memory: bool = False
    """``ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2``."""


class TaskGroups:
    """Makes, limits and removes the control groups of tasks. Belongs to one event loop.

    Attributes:
        problem: why tasks cannot be limited on this host; empty where they can, and where nobody
            wants it.
    """

    def __init__(self, settings: GroupSettings, mount: CgroupMount) -> None:
        """Take what ``open`` found; ``follow`` says which driver the engine has."""
        self.problem = ""
        self._settings = settings
        self._mount = mount
        self._drivers = _drivers(mount, settings.owner[:_OWNER_DIGITS])
        self._engine: tuple[str, int] = ("", 0)
        """The engine's cgroup driver, and the version that it uses."""
        self._made: set[str] = set()
        """Groups that tasks of this process have, or are about to have."""
        self._paths: dict[str, str] = {}
        """By task; the sampler asks for all of them in each round."""
        self._lane = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cgroups")
        self._to_ask = asyncio.Event()

    @classmethod
    async def open(
        cls, settings: GroupSettings, *, engine_driver: str, engine_version: int
    ) -> TaskGroups:
        """Find out whether tasks can be limited, and prepare the host for it; never fails.

        Args:
            settings: how to limit them.
            engine_driver: the engine's cgroup driver, as it names it.
            engine_version: the version of control groups that the engine uses.
        """
        mount = await asyncio.to_thread(CgroupMount.find, settings.root)
        groups = cls(settings, mount)
        await groups.follow(engine_driver, engine_version)
        return groups

    @classmethod
    def off(cls) -> TaskGroups:
        """Return the groups of a host that makes none."""
        nowhere = Path("/nonexistent")
        settings = GroupSettings(owner="", root=nowhere, enabled=False)
        return cls(settings, CgroupMount(nowhere, 0, {}))

    @property
    def limiting(self) -> bool:
        """Whether tasks are limited."""
        return self._settings.enabled and not self.problem and self._driver is not None

    @property
    def are_there(self) -> bool:
        """Whether this host has control groups, whoever makes them."""
        return bool(self._mount.version)

    @property
    def problems(self) -> list[str]:
        """One sentence for what does not work; empty when all is well."""
        return [f"tasks are not limited as a whole: {self.problem}"] if self.problem else []

    async def follow(self, engine_driver: str, engine_version: int) -> None:
        """Make groups as the engine does from now on; the same driver as before changes nothing."""
        if (engine_driver, engine_version) == self._engine:
            return
        if self._engine[0]:
            _log.info("the engine has another cgroup driver", driver=engine_driver)
        self._engine = (engine_driver, engine_version)
        self._paths.clear()
        if not self._settings.enabled:
            return
        self.problem = why_not(self._mount, engine_driver, engine_version)
        try:
            if not self.problem:
                await self._block(self._drivers[engine_driver].set_up)
        except CgroupFailure as error:
            self.problem = str(error)
        if self.problem:
            _log.warning("tasks are not limited as a whole", problem=self.problem)

    def take_note_of(self, event: EngineEvent) -> None:
        """Ask the engine for its driver once it may be another one: it was away, or restarted."""
        if event.action == "relist":
            self._to_ask.set()

    async def run(self, ask: Callable[[], Awaitable[EngineInfo]]) -> None:
        """Follow the engine's driver until cancelled; ``ask`` may raise ``RuntimeFailure``."""
        while True:
            await self._to_ask.wait()
            self._to_ask.clear()
            try:
                info = await ask()
            except RuntimeFailure as error:
                _log.debug("the engine's cgroup driver is not known", error=str(error))
                continue  # once it answers, it is asked again
            await self.follow(info.cgroup_driver, info.cgroup_version)

    async def ensure(self, payload: TaskPayload) -> str:
        """Make a task's group, or bring the limits of one that exists in order.

        Returns:
            What the engine is to be told as ``CgroupParent`` of the task's containers.

        Raises:
            CgroupFailure: it cannot be made.
        """
        driver = self._driver
        if driver is None:
            raise CgroupFailure(self.problem or "this host has no control groups")
        settings, name = self._settings, ids.cgroup_name(payload.arn)
        self._made.add(name)
        limits = limits_of(payload, period_us=settings.period_us, pids=settings.pids)
        await self._block(lambda: driver.apply(name, limits))
        return driver.parent_of(name)

    def memory_shown_mib(self, payload: TaskPayload) -> int:
        """Return the limit of containers that have none of their own, so that they can see the task's.

        0 where they get none: a process reads the limit of its own group only.
        """
        propagate = self._settings.propagate_memory and self._mount.version == 2
        return max(payload.memory, 0) if propagate else 0

    def path_of(self, task_arn: str) -> str:
        """Return where a task's group is, from the top of a hierarchy; empty if it has none."""
        path = self._paths.get(task_arn)
        if path is None:
            path = self._driver.path_of(ids.cgroup_name(task_arn)) if self._driver else ""
            if len(self._paths) >= _PATHS_MOST:
                self._paths.clear()
            self._paths[task_arn] = path
        return path

    async def remove(self, task_arn: str) -> None:
        """Remove the group of a task whose containers are removed; an absent one is success.

        What still runs in it then is nobody's: an engine that dies while it starts a container forgets the
        process that was to become it. It is killed, for the next try.

        Raises:
            CgroupFailure: it still has processes, or cannot be removed now.
        """
        name = ids.cgroup_name(task_arn)
        try:
            await self._remove(name)
        except CgroupFailure:
            if killed := await self._block(partial(self._kill_strays, name)):
                _log.warning("processes of removed containers killed", task=task_arn, pids=killed)
            raise
        self._made.discard(name)
        self._paths.pop(task_arn, None)

    async def end_forgotten(self, task_arn: str, container_id: str) -> None:
        """End what an engine has started in a container before it died, and has forgotten; idempotent.

        Returns when none of it runs any more.

        Only where groups ``are_there``, in which it is found.

        Raises:
            CgroupFailure: something does not end.
        """
        top = self._mount.tops()[0]  # a process is in all of them
        ended = await self._block(lambda: strays.kill(of_container(top, container_id)))
        _log.warning(
            "the engine died while it started a container, and has forgotten so; making it anew",
            task=task_arn,
            container=container_id[:12],
            killed=ended,
        )

    async def reconcile(self, task_arns: Iterable[str]) -> None:
        """Remove the groups of all tasks that are not listed; what cannot be removed is logged.

        To be called once control has said what it wants: before, a task may be there of which
        nothing is known.

        Raises:
            CgroupFailure: the groups cannot be listed.
        """
        known = {ids.cgroup_name(arn) for arn in task_arns}
        # A task that has come since the list was made has its group already, perhaps.
        for name in await self._block(self._names) - known - self._made:
            _log.info("removing the control group of a task that is gone", name=name)
            try:
                await self._remove(name)
            except CgroupFailure as error:
                _log.warning("leftover not removed", what=name, error=str(error))

    async def close(self) -> None:
        """End the thread, and remove what is above the groups of tasks if there are none left."""
        try:
            for driver in self._drivers.values():
                await self._block(driver.leave)
        except CgroupFailure as error:
            _log.warning("leftover not removed", what="control groups", error=str(error))
        self._lane.shutdown(wait=False, cancel_futures=True)

    @property
    def _driver(self) -> GroupDriver | None:
        return self._drivers.get(self._engine[0])

    def _names(self) -> set[str]:
        return {name for driver in self._drivers.values() for name in driver.names()}

    async def _remove(self, name: str) -> None:
        """Remove a group, whichever driver the engine had when it was made."""
        for driver in self._drivers.values():
            await self._block(partial(driver.remove, name))

    def _kill_strays(self, name: str) -> list[int]:
        """Kill all processes in a task's group, and return their ids. Blocks."""
        return strays.kill(
            top / driver.path_of(name)
            for driver in self._drivers.values()
            for top in self._mount.tops()
        )

    async def _block(self, work: Callable[[], T]) -> T:
        """Run blocking work in the thread; raises ``CgroupFailure`` for whatever goes wrong."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                return await loop.run_in_executor(self._lane, work)
        except TimeoutError:
            text = f"control groups did not answer within {CALL_LIMIT_S:g} s"
            raise CgroupFailure(text) from None
        except OSError as error:
            raise CgroupFailure(_explained(error)) from None


def why_not(mount: CgroupMount, engine_driver: str, engine_version: int) -> str:
    """Return why tasks cannot be limited, as far as what is mounted tells; empty if nothing does. Pure."""
    if engine_driver not in ("cgroupfs", "systemd"):
        return (
            f"the container engine manages no control groups (its driver is {engine_driver!r}); run "
            "it as root"
        )
    if not mount.version:
        return f"there are no control groups at {mount.root}; set ECS_CGROUP_PATH to their mount"
    if engine_version != mount.version:
        return (
            f"the container engine uses control groups of version {engine_version}, but those at "
            f"{mount.root} have version {mount.version}; restart the engine or set ECS_CGROUP_PATH"
        )
    if missing := mount.missing():
        return (
            f"the kernel has no cgroup controller {' and '.join(missing)}; add "
            "'cgroup_enable=memory' to its command line, or use another kernel"
        )
    if not mount.has_quotas:
        return "the kernel cannot limit CPU time; use one with CONFIG_CFS_BANDWIDTH"
    return ""


def _drivers(mount: CgroupMount, owner: str) -> dict[str, GroupDriver]:
    """Return the ways to make groups, by the engine's name of its driver."""
    if not mount.version:
        return {}
    return {"cgroupfs": FileGroups(mount, owner), "systemd": SliceGroups(mount, owner)}


def _explained(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"control groups cannot be changed: {where}{error.strerror or error}"
