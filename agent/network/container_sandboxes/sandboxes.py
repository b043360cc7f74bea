"""Makes, hands out, watches and removes the sandboxes of single containers.

::

    refill ──► ready ──take──► held by a container ──release──► removed
                 │ its process ends, or there are too many       ▲
                 └───────────────────────────────────────────────┘

A taken sandbox is used by one container and never again. After a restart of the agent, a sandbox that
a container has joined is held by it, and others are ready again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import AgentError, NoSuchContainer
from agent.model.figures import ContainerSandboxFigures
from agent.network import demand
from agent.network.background import BackgroundTasks, settle
from agent.network.container_sandboxes.creation import body, create
from agent.network.container_sandboxes.owners import Owner
from agent.network.demand import Demand
from agent.network.kernel import namespaces
from agent.network.memory import available_memory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from agent.network.container_sandboxes.owners import Containers
    from agent.runtime.protocol import ContainerEngine, ContainerSummary

MODES: Final = ("none",)
_FRAGILE: Final = frozenset({"bridge"})
"""Modes in which a container loses its network with the sandbox. Without a link there is nothing to
lose: the container itself keeps the namespace."""
QUIET_S: Final = 0.5
"""Sandboxes are made when nothing was launched for this long."""
STARVED_S: Final = 10.0
"""After this long with launches all the time, they are made nevertheless."""
LOOK_S: Final = 60.0
"""How often it is decided again how many to keep, while some are."""
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 60.0
CREATION_LIMIT_S: Final = 5.0
"""How long an orderly end waits for the sandbox that is being made."""
_PARALLEL: Final = 8
_log = structlog.get_logger(__name__)


class ContainerSandboxes:
    """The sandboxes of one agent. Belongs to one event loop. ``close`` it."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        runtime: ContainerEngine,
        *,
        owner: str,
        image: str,
        load_image: Callable[[], Awaitable[object]],
        least: int,
        available_bytes: Callable[[], int] | None = None,
        identify: Callable[[int], namespaces.Process | None] = namespaces.identify,
        clock: Callable[[], float] = time.monotonic,
        quiet_s: float = QUIET_S,
    ) -> None:
        """Have nothing yet; ``take_over`` adds what an earlier process left.

        Args:
            runtime: runs the pause containers.
            owner: identifies the agent among several on one host.
            image: reference of the pause image.
            load_image: loads it again after it was removed.
            least: kept ready for a mode in use; 0 to make none at all.
            available_bytes: returns the host's available memory, may block; None to read it.
            identify: finds the process of a pid; blocks.
            clock: monotonic time in seconds.
            quiet_s: time without launches before sandboxes are made.
        """
        self.problem = ""
        """Why none can be made now; empty if they can."""
        self.hits = 0
        """Launches that got a ready sandbox."""
        self.misses = 0
        """Launches that could have used one, but none was ready."""
        self._runtime = runtime
        self._owner = owner
        self._image = image
        self._load_image = load_image
        self._least = least
        self._available_bytes = available_bytes or available_memory
        self._identify = identify
        self._clock = clock
        self._quiet_s = quiet_s
        self._demand = dict.fromkeys(MODES, Demand())
        self._ready: dict[str, deque[str]] = {mode: deque() for mode in MODES}
        self._held: dict[str, Owner] = {}
        """By engine id of the sandbox."""
        self._by_owner: dict[Owner, str] = {}
        self._modes: dict[str, str] = {}
        self._alive: set[str] = set()
        self._doomed: set[str] = set()
        """Sandboxes to remove, by engine id, or by name where the engine has not told the id."""
        self._creations = BackgroundTasks()
        self._exits = namespaces.ExitWatch()
        self._lost: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._removals = asyncio.Event()

    # -- containers -----------------------------------------------------------------------------

    def take(self, task_arn: str, container: str, mode: str) -> str:
        """Return the engine id of a sandbox for a container; empty if none is ready.

        The same container gets the same one again while that is alive. Costs no call.
        """
        owner = Owner(task_arn, container)
        held = self._by_owner.get(owner, "")
        if held in self._alive:
            return held
        if mode not in self._ready or self._least <= 0:
            return ""
        self._demand[mode] = self._demand[mode].launched(self._clock())
        self._changed.set()
        if not self._ready[mode]:
            self.misses += 1
            return ""
        self.hits += 1
        taken = self._ready[mode].popleft()
        self._hold(taken, owner)
        return taken

    def of(self, task_arn: str, container: str) -> str:
        """Return the engine id of the sandbox that a container holds; empty for none."""
        return self._by_owner.get(Owner(task_arn, container), "")

    def is_alive(self, sandbox_id: str) -> bool:
        """Return whether containers can join a sandbox, as far as is known."""
        return sandbox_id in self._alive

    def release(self, task_arn: str) -> None:
        """Have the sandboxes of a task removed soon, now that it has stopped; returns at once."""
        for sandbox_id, owner in list(self._held.items()):
            if owner.task_arn == task_arn:
                self._doom(sandbox_id)

    # -- all of them ----------------------------------------------------------------------------

    async def take_over(self, found: Containers, stopped_tasks: Collection[str]) -> None:
        """Go on with what an earlier process left.

        Args:
            found: what the engine has.
            stopped_tasks: ARNs of tasks that need no network any more.
        """
        running = [each for each in found.sandboxes if each.state in ("running", "paused")]
        slots = asyncio.Semaphore(_PARALLEL)
        pids = await asyncio.gather(*(self._pid(each.id, slots) for each in running))
        alive = {each.id: pid for each, pid in zip(running, pids, strict=True) if pid}
        for each in found.sandboxes:
            self._modes[each.id] = each.network_mode
            owner = found.users.get(each.id)
            if owner is not None and owner.task_arn not in stopped_tasks:
                self._hold(each.id, owner)
                if not await self._watch(each.id, alive.get(each.id, 0)):
                    self._ended(each.id)
            elif owner is None and self._is_usable(each) and each.id in alive:
                await self._watch(each.id, alive[each.id])
                self._ready[each.network_mode].append(each.id)
                size = float(len(self._ready[each.network_mode]))  # it tells of the demand so far
                self._demand[each.network_mode] = Demand(1, self._clock(), size)
            else:
                self._doom(each.id)
        self._changed.set()

    async def reconcile(self, task_arns: Collection[str]) -> None:
        """Remove the sandboxes of tasks that are not in the list, once control has sent all it wants."""
        for owner in list(self._held.values()):
            if owner.task_arn not in task_arns:
                self.release(owner.task_arn)

    async def run(self, on_lost: Callable[[str, str], object]) -> None:
        """Keep sandboxes ready and remove those that nobody needs, until cancelled.

        Args:
            on_lost: told the ARN of a task that lost a container's network, and why.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell(on_lost), name="container networks lost")
            group.create_task(self._remove_doomed(), name="container sandboxes removed")
            group.create_task(self._refill(), name="container sandboxes made")

    async def finish(self, limit_s: float) -> None:
        """Wait for the sandbox that is being made, which ``run`` leaves behind when it is cancelled.

        Args:
            limit_s: seconds after which the creation is given up, and what came of it is to be removed.
        """
        await self._creations.finish(limit_s)

    async def remove_ready(self, limit_s: float = CREATION_LIMIT_S) -> None:
        """Remove what nobody has taken, and what is waiting to be removed; failures are logged.

        ``run`` must have ended. The sandbox that is being made is waited for, as in ``finish``.
        """
        await self.finish(limit_s)
        for sandboxes in self._ready.values():
            for sandbox_id in list(sandboxes):
                self._doom(sandbox_id)
        await self._empty_doomed()

    @property
    def ready(self) -> int:
        """How many are ready to be taken."""
        return sum(len(sandboxes) for sandboxes in self._ready.values())

    @property
    def held(self) -> int:
        """How many containers hold one."""
        return len(self._held)

    @property
    def figures(self) -> ContainerSandboxFigures:
        """How many sandboxes there are, and how launches got theirs."""
        return ContainerSandboxFigures(
            ready=self.ready, held=self.held, hits=self.hits, misses=self.misses
        )

    def close(self) -> None:
        """Watch no longer; all sandboxes stay. Idempotent."""
        self._exits.close()

    # -- one sandbox ----------------------------------------------------------------------------

    def _is_usable(self, summary: ContainerSummary) -> bool:
        return self._least > 0 and summary.network_mode in self._ready

    def _hold(self, sandbox_id: str, owner: Owner) -> None:
        self._held[sandbox_id] = owner
        self._by_owner[owner] = sandbox_id

    def _doom(self, sandbox_id: str) -> None:
        self._forget(sandbox_id)
        self._doomed.add(sandbox_id)
        self._removals.set()

    def _forget(self, sandbox_id: str) -> None:
        self._exits.discard(sandbox_id)
        self._alive.discard(sandbox_id)
        self._modes.pop(sandbox_id, None)
        owner = self._held.pop(sandbox_id, None)
        if owner is not None and self._by_owner.get(owner) == sandbox_id:
            del self._by_owner[owner]
        for sandboxes in self._ready.values():
            with contextlib.suppress(ValueError):
                sandboxes.remove(sandbox_id)

    async def _pid(self, sandbox_id: str, slots: asyncio.Semaphore) -> int:
        async with slots:
            try:
                state = await self._runtime.inspect_container(sandbox_id)
            except NoSuchContainer:
                return 0
            return state.pid if state.running else 0

    async def _watch(self, sandbox_id: str, pid: int) -> bool:
        process = await asyncio.to_thread(self._identify, pid) if pid else None
        if process is None:
            return False
        self._alive.add(sandbox_id)
        self._exits.add(sandbox_id, process, self._ended)
        return True

    def _ended(self, sandbox_id: str) -> None:
        """A pause program has ended by itself, or somebody removed its container."""
        self._exits.discard(sandbox_id)
        self._alive.discard(sandbox_id)
        owner = self._held.get(sandbox_id)
        if owner is None:
            _log.warning("ready sandbox of a container lost", sandbox=sandbox_id[:12])
            self._doom(sandbox_id)
            self._changed.set()
            return
        if self._modes.get(sandbox_id) in _FRAGILE:
            reason = f"the network sandbox of container {owner.container} stopped"
            self._lost.put_nowait((owner.task_arn, reason))

    async def _make(self, mode: str) -> None:
        name = f"ecs-sandbox-{mode}-{secrets.token_hex(6)}"
        try:
            made = await create(
                self._runtime, name, body(self._image, mode, self._owner), self._load_image
            )
        except BaseException:
            self._doom(name)  # without an answer, it may be there nevertheless
            raise
        self._modes[made] = mode
        try:
            await self._runtime.start_container(made)
            state = await self._runtime.inspect_container(made)
            is_alive = state.running and await self._watch(made, state.pid)
        except BaseException:
            self._doom(made)
            raise
        if is_alive:
            self._ready[mode].append(made)
        else:
            self._doom(made)

    # -- loops ----------------------------------------------------------------------------------

    async def _tell(self, on_lost: Callable[[str, str], object]) -> None:
        while True:
            on_lost(*await self._lost.get())

    async def _refill(self) -> None:
        retry_s = RETRY_FIRST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if self.ready else None):
                    await self._changed.wait()
            self._changed.clear()
            while (mode := await self._mode_to_fill()) is not None:
                await self._quiet()
                try:
                    # It goes on if this is cancelled: the engine would make the container anyway.
                    await asyncio.shield(self._creations.spawn(self._make(mode)))
                except AgentError as error:
                    self.problem = f"no sandbox of a container can be made: {error}"
                    _log.warning("sandbox of a container not made", mode=mode, error=str(error))
                    await asyncio.sleep(retry_s)
                    retry_s = min(retry_s * 2, RETRY_LAST_S)
                else:
                    self.problem, retry_s = "", RETRY_FIRST_S
            await self._drop_excess()

    async def _mode_to_fill(self) -> str | None:
        """Return the mode that lacks most; None if there are enough."""
        missing = {mode: n - len(self._ready[mode]) for mode, n in (await self._wanted()).items()}
        mode = max(missing, key=lambda each: missing[each])
        return mode if missing[mode] > 0 else None

    async def _drop_excess(self) -> None:
        for mode, wanted in (await self._wanted()).items():
            for _ in range(len(self._ready[mode]) - wanted):
                self._doom(self._ready[mode][-1])

    async def _wanted(self) -> dict[str, int]:
        now = self._clock()
        # What is ready already is no longer available, so it counts as if it were.
        free = await asyncio.to_thread(self._available_bytes) + self.ready * demand.SANDBOX_BYTES
        most = demand.most_for(free)
        wanted = {}
        for mode, launches in self._demand.items():
            wanted[mode] = launches.wanted(now, least=self._least, most=most)
            most -= wanted[mode]
        return wanted

    async def _quiet(self) -> None:
        """Return when nothing was launched for a while, or launches have not stopped for long."""
        began = self._clock()
        while True:
            now = self._clock()
            last = max(launches.last for launches in self._demand.values())
            left_s = min(last + self._quiet_s - now, began + STARVED_S - now)
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    async def _remove_doomed(self) -> None:
        retry_s = RETRY_FIRST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(retry_s if self._doomed else None):
                    await self._removals.wait()
            self._removals.clear()
            await self._empty_doomed()
            retry_s = min(retry_s * 2, RETRY_LAST_S) if self._doomed else RETRY_FIRST_S

    async def _empty_doomed(self) -> None:
        slots = asyncio.Semaphore(_PARALLEL)
        await settle(
            "sandbox of a container not removed",
            [(each[:12], self._remove(each, slots)) for each in list(self._doomed)],
        )

    async def _remove(self, sandbox_id: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            await self._runtime.remove_container(sandbox_id, force=True)
            self._doomed.discard(sandbox_id)
