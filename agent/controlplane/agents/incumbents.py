"""Refuses a second host with the identity of one that is connected: a copy of its state, or of its disk.

Each process of an agent registers, and is given a **session**: a secret that it keeps in memory alone, and sends
with every call. So a copy of a host's files cannot go on with the registration of the host; it has to register. Then
control looks whether the process that registered last, the incumbent, is still there: it answers its held poll, and
waits for its next call. If that comes within ``WAIT_S``, the newcomer is refused.

A host that restarts its agent or boots waits for nobody: its kernel closed the connections of the process that
ended. One that lost its power or its network waits for ``WAIT_S``, because its connection still looks alive.

Everything is in memory; for one event loop. Tests: ``tests/unit/controlplane/agents/test_incumbents.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from agent.controlplane import records
from agent.controlplane.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.controlplane.agents.wakeups import WakeUps
    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import Store
    from agent.model.wire import Register

WAIT_S: Final = 0.8
"""An agent whose poll is answered makes the next one at once, or a quarter of a second later."""
SURE_S: Final = 3.0
"""For how long an incumbent that has just shown itself is not asked again, whoever wants its place."""


class Held(Protocol):
    """One poll that is held."""

    is_ended: bool
    """Whether it is to be answered now, so that the agent shows that it is there."""

    @property
    def is_gone(self) -> Callable[[], bool]:
        """Returns whether the connection was closed."""


class HeldPoll(Struct, eq=False):
    """One poll that is held by a task."""

    is_gone: Callable[[], bool]
    """Returns whether the connection was closed."""
    is_ended: bool = False
    """Whether it is to be answered now, so that the agent shows that it is there."""


class Incumbents:
    """Knows the process of each instance that registered last."""

    def __init__(self, store: Store, wakeups: WakeUps) -> None:
        self._store = store
        self._wakeups = wakeups
        self._processes: Recent[str, str] = Recent()
        self._held: dict[str, set[Held]] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        self._seen_at: dict[str, float] = {}
        """When an incumbent last showed itself to keep its place."""

    @contextlib.contextmanager
    def holding(self, instance_id: str, is_gone: Callable[[], bool]) -> Iterator[HeldPoll]:
        """Know a held poll of an instance for the length of the block."""
        poll = HeldPoll(is_gone)
        self.hold(instance_id, poll)
        try:
            yield poll
        finally:
            self.let_go(instance_id, poll)

    def hold(self, instance_id: str, poll: Held) -> None:
        """Know a held poll of an instance until ``let_go``."""
        self._held.setdefault(instance_id, set()).add(poll)

    def let_go(self, instance_id: str, poll: Held) -> None:
        """Know a poll no longer."""
        held = self._held[instance_id]
        held.discard(poll)
        if not held:
            del self._held[instance_id]

    def heard(self, instance_id: str) -> None:
        """Note a new call of the process that registered last; a poll that goes on is none."""
        if self._awaited and (awaited := self._awaited.get(instance_id)) is not None:
            awaited.set()

    def registered(self, instance_id: str, call: Register) -> None:
        """Note which process has registered."""
        if call.process_id:
            self._processes[instance_id] = call.process_id
        else:
            self._processes.pop(instance_id, None)

    async def is_there(self, instance: InstanceRecord, call: Register) -> bool:
        """Return whether an instance has another process than the one that registers now.

        Takes up to ``WAIT_S`` if there may be one. Never true for an incumbent without a session.

        Raises:
            StoreFailure: the store cannot be read.
        """
        if not instance.session or self._processes.get(instance.id, "") == call.process_id != "":
            return False
        if not await self._may_be_there(instance, call):
            return False
        loop = asyncio.get_running_loop()
        if loop.time() - self._seen_at.get(instance.id, -SURE_S) < SURE_S:
            return True
        heard = self._awaited.setdefault(instance.id, asyncio.Event())
        for poll in self._held.get(instance.id, ()):
            poll.is_ended = True
        self._wakeups.wake(instance.id)
        try:
            async with asyncio.timeout(WAIT_S):
                await heard.wait()
        except TimeoutError:
            return False
        finally:
            if self._awaited.get(instance.id) is heard:
                del self._awaited[instance.id]
        self._seen_at = {
            known: at for known, at in self._seen_at.items() if loop.time() - at < SURE_S
        }
        self._seen_at[instance.id] = loop.time()
        return True

    async def _may_be_there(self, instance: InstanceRecord, call: Register) -> bool:
        if any(not poll.is_gone() for poll in self._held.get(instance.id, ())):
            return True
        if instance.resources.boot_id == call.resources.boot_id:
            # The same host: it has no connection left, so its earlier process has ended.
            return False
        return await self._store.get(records.alive_key(instance.id)) is not None
