"""Makes, hands out, watches and removes the sandboxes of single containers.

::

    refill ──► ready ──take──► held by a container ──release──► removed
                 │ its process ends, or there are too many       ▲
                 └───────────────────────────────────────────────┘

A taken sandbox is used by one container and never again. After a restart of the agent, a sandbox that
a container has joined is held by it, and others are ready again. Host ports of a ready sandbox are
promised to nobody else; with the sandbox, they pass to the container that takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import NoSuchContainer
from agent.model.figures import ContainerSandboxFigures
from agent.network.container_sandboxes import kinds
from agent.network.container_sandboxes.cut_off import CutOff
from agent.network.container_sandboxes.maker import Maker
from agent.network.container_sandboxes.owners import Owner
from agent.network.container_sandboxes.refill import Refill, Stock
from agent.network.container_sandboxes.removals import Removals
from agent.network.kernel import namespaces
from agent.network.memory import available_memory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from agent.model.views import RepairView
    from agent.network.container_sandboxes.kinds import Bindings, Kind
    from agent.network.container_sandboxes.maker import Ports
    from agent.network.container_sandboxes.owners import Containers
    from agent.runtime.protocol import ContainerEngine, ContainerState, EngineEvent

_FRAGILE: Final = frozenset({"bridge"})
"""Modes in which a container loses its network with the sandbox. Without a link there is nothing to
lose: the container itself keeps the namespace."""
QUIET_S: Final = 0.5
"""Sandboxes are made when nothing was launched for this long."""
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
        ports: Ports,
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
            ports: picks the host ports of sandboxes.
            least: kept ready for a mode in use; 0 to make none at all.
            available_bytes: returns the host's available memory, may block; None to read it.
            identify: finds the process of a pid; blocks.
            clock: monotonic time in seconds.
            quiet_s: time without launches before sandboxes are made.
        """
        self.hits = 0
        """Launches that got a ready sandbox."""
        self.misses = 0
        """Launches that could have used one, but none was ready."""
        self._runtime = runtime
        self._maker = Maker(runtime, owner, image, load_image, ports)
        self._least = least
        self._identify = identify
        stock = Stock(self._counts, self._make, self._drop, available_bytes or available_memory)
        self._refill = Refill(stock, least=least, clock=clock, quiet_s=quiet_s)
        self._ready: dict[Kind, deque[str]] = {}
        self._held: dict[str, Owner] = {}
        """By engine id of the sandbox."""
        self._by_owner: dict[Owner, str] = {}
        self._kinds: dict[str, Kind] = {}
        self._bindings: dict[str, Bindings] = {}
        self._promised: dict[str, Bindings] = {}
        """Host ports of sandboxes that nobody has taken."""
        self._making: Bindings = {}
        """Host ports of the sandbox that is being made."""
        self._turn = asyncio.Lock()
        self._alive: set[str] = set()
        self._exits = namespaces.ExitWatch()
        self._removals = Removals(runtime, self._removed)
        self._cut_off = CutOff(runtime, self._give_up)
        self._lost: asyncio.Queue[tuple[Owner, str]] = asyncio.Queue()

    # -- containers -----------------------------------------------------------------------------

    def take(self, task_arn: str, container: str, kind: Kind) -> str:
        """Return the engine id of a sandbox for a container; empty if none is ready.

        The same container gets the same one again while that is alive. Costs no call. The caller
        owns the host ports of the sandbox (``bindings``) from now on, and releases them.
        """
        owner = Owner(task_arn, container)
        held = self._by_owner.get(owner, "")
        if held in self._alive:
            return held
        if not self._is_wanted(kind):
            return ""
        self._refill.launched(kind)
        ready = self._ready.get(kind)
        if not ready:
            self.misses += 1
            return ""
        self.hits += 1
        taken = ready.popleft()
        self._promised.pop(taken, None)
        self._hold(taken, owner)
        return taken

    def bindings(self, sandbox_id: str) -> Mapping[str, list[int]]:
        """Return the host ports of a sandbox by ``port/protocol``; none for an unknown one."""
        return self._bindings.get(sandbox_id, {})

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

    async def give_way(self, ports: Collection[tuple[str, int]]) -> None:
        """Have no ready sandbox hold these host ports, by protocol and number; promise them.

        Costs nothing unless one holds them; then it is removed before this returns. The caller
        releases the ports.
        """
        for protocol, port in ports:
            self._maker.ports.hold(protocol, [port])
        if kinds.overlap(self._making, ports):
            async with self._turn:
                pass
        in_the_way = [each for each, held in self._promised.items() if kinds.overlap(held, ports)]
        for each in in_the_way:
            self._promised[each] = kinds.without(self._promised[each], ports)
            self._doom(each)
        if in_the_way:
            self._refill.wake()
            await self._removals.empty(in_the_way)

    # -- all of them ----------------------------------------------------------------------------

    async def take_over(self, found: Containers, stopped_tasks: Collection[str]) -> None:
        """Go on with what an earlier process left.

        Args:
            found: what the engine has.
            stopped_tasks: ARNs of tasks that need no network any more.
        """
        slots = asyncio.Semaphore(_PARALLEL)
        states = await asyncio.gather(*(self._state(each.id, slots) for each in found.sandboxes))
        for each, state in zip(found.sandboxes, states, strict=True):
            kind = kinds.read(each.network_mode, each.labels.get(kinds.PORTS_LABEL, ""))
            bindings = dict(state.port_bindings) if state else {}
            owner = found.owner(each.id, kinds.held_ports(bindings))
            if kind is None or (owner is not None and owner.task_arn in stopped_tasks):
                self._doom(each.id)
                continue
            self._kinds[each.id], self._bindings[each.id] = kind, bindings
            alive = state is not None and await self._watch(each.id, state.pid)
            if owner is not None:
                self._hold(each.id, owner)
                if not alive:
                    self._ended(each.id)
            elif alive and self._is_wanted(kind) and self._maker.suits(kind, bindings):
                self._maker.hold(bindings)
                self._promised[each.id] = bindings
                self._ready.setdefault(kind, deque()).append(each.id)
                # How many there are tells of the demand so far.
                self._refill.found(kind, len(self._ready[kind]))
            else:
                self._doom(each.id)
        self._cut_off.suspect([*self._held, *self._all_ready()])
        self._refill.wake()

    async def reconcile(self, task_arns: Collection[str]) -> None:
        """Remove the sandboxes of tasks that are not in the list, once control has sent all it wants."""
        for owner in list(self._held.values()):
            if owner.task_arn not in task_arns:
                self.release(owner.task_arn)

    def take_note_of(self, event: EngineEvent) -> None:
        """Have sandboxes looked at that may have been disconnected from their network."""
        if event.action == "relist":
            self._cut_off.suspect([*self._held, *self._all_ready()])
        elif event.action == "disconnect" and event.container_id in self._alive:
            self._cut_off.suspect([event.container_id])

    async def run(self, on_lost: Callable[[str, str, str], object]) -> None:
        """Keep sandboxes ready and remove those that nobody needs, until cancelled.

        Args:
            on_lost: told the ARN of a task and the container that lost its network, and why.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell(on_lost), name="container networks lost")
            group.create_task(self._removals.run(), name="container sandboxes removed")
            group.create_task(self._refill.run(), name="container sandboxes made")
            group.create_task(self._cut_off.run(), name="container sandboxes connected")

    async def finish(self, limit_s: float) -> None:
        """Wait for the sandbox that is being made, which ``run`` leaves behind when it is cancelled.

        Args:
            limit_s: seconds after which the creation is given up, and what came of it is to be removed.
        """
        await self._refill.finish(limit_s)

    async def remove_ready(self, limit_s: float = CREATION_LIMIT_S) -> None:
        """Remove what nobody has taken, and what is waiting to be removed; failures are logged.

        ``run`` must have ended. The sandbox that is being made is waited for, as in ``finish``.
        """
        await self.finish(limit_s)
        for sandbox_id in self._all_ready():
            self._doom(sandbox_id)
        await self._removals.empty()

    @property
    def problem(self) -> str:
        """Why none can be made now; empty if they can."""
        return self._refill.problem

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

    @property
    def repairs(self) -> list[RepairView]:
        """The newest repairs of sandboxes that others changed, oldest first."""
        return list(self._cut_off.repairs)

    def close(self) -> None:
        """Watch no longer; all sandboxes stay. Idempotent."""
        self._exits.close()

    # -- one sandbox ----------------------------------------------------------------------------

    def _is_wanted(self, kind: Kind) -> bool:
        return self._least > 0 and kind.is_kept

    def _counts(self) -> dict[Kind, int]:
        return {kind: len(sandboxes) for kind, sandboxes in self._ready.items() if sandboxes}

    def _drop(self, kind: Kind) -> None:
        """Give the newest sandbox of a kind up."""
        self._doom(self._ready[kind][-1])
        if not self._ready[kind]:
            del self._ready[kind]

    def _all_ready(self) -> list[str]:
        return [each for sandboxes in self._ready.values() for each in sandboxes]

    def _hold(self, sandbox_id: str, owner: Owner) -> None:
        self._held[sandbox_id] = owner
        self._by_owner[owner] = sandbox_id

    def _doom(self, sandbox_id: str) -> None:
        self._forget(sandbox_id)
        self._removals.add(sandbox_id)

    def _removed(self, sandbox_id: str) -> None:
        self._maker.release(self._promised.pop(sandbox_id, {}))

    def _forget(self, sandbox_id: str) -> None:
        self._exits.discard(sandbox_id)
        self._alive.discard(sandbox_id)
        self._kinds.pop(sandbox_id, None)
        self._bindings.pop(sandbox_id, None)
        owner = self._held.pop(sandbox_id, None)
        if owner is not None and self._by_owner.get(owner) == sandbox_id:
            del self._by_owner[owner]
        for sandboxes in self._ready.values():
            with contextlib.suppress(ValueError):
                sandboxes.remove(sandbox_id)

    async def _state(self, sandbox_id: str, slots: asyncio.Semaphore) -> ContainerState | None:
        """Return the state of a sandbox that runs; None for any other."""
        async with slots:
            try:
                state = await self._runtime.inspect_container(sandbox_id)
            except NoSuchContainer:
                return None
            return state if state.running else None

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
            self._refill.wake()
            return
        kind = self._kinds.get(sandbox_id)
        if kind is not None and kind.mode in _FRAGILE:
            reason = f"the network sandbox of container {owner.container} stopped"
            self._lost.put_nowait((owner, reason))

    def _give_up(self, sandbox_id: str, cause: str) -> None:
        """A sandbox has lost its network for good."""
        owner = self._held.get(sandbox_id)
        if owner is None:
            self._doom(sandbox_id)
            self._refill.wake()
            return
        reason = f"the network sandbox of container {owner.container} cannot be used: {cause}"
        self._lost.put_nowait((owner, reason))

    async def _make(self, kind: Kind) -> None:
        async with self._turn:
            held = sum(len(ports) for each in self._promised.values() for ports in each.values())
            bindings = self._making = self._maker.pick(kind, held)
            try:
                await self._make_with(kind, bindings)
            finally:
                self._making = {}

    async def _make_with(self, kind: Kind, bindings: Bindings) -> None:
        name = f"ecs-sandbox-{kind.mode}-{secrets.token_hex(6)}"
        try:
            made = await self._maker.create(name, kind, bindings)
        except BaseException:
            self._promised[name] = bindings
            self._doom(name)  # without an answer, it may be there nevertheless
            raise
        self._kinds[made], self._bindings[made] = kind, bindings
        self._promised[made] = bindings
        try:
            await self._runtime.start_container(made)
            state = await self._runtime.inspect_container(made)
            is_alive = state.running and await self._watch(made, state.pid)
        except BaseException:
            self._doom(made)
            raise
        if is_alive:
            self._ready.setdefault(kind, deque()).append(made)
        else:
            self._doom(made)

    # -- loops ----------------------------------------------------------------------------------

    async def _tell(self, on_lost: Callable[[str, str, str], object]) -> None:
        while True:
            owner, reason = await self._lost.get()
            on_lost(owner.task_arn, owner.container, reason)
