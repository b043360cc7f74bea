"""An operator's wish that this host takes no new tasks: kept in the store, told to control when it can be.

The wish is durable before ``order`` returns, and is told again until control has taken it, across restarts of
either. If the host is registered as another instance, that one is drained too. Control does the rest: it
places nothing on an instance that is DRAINING, and replaces the tasks of services on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import structlog

from agent.errors import BAD_JSON, AwsFailure, ControlFailure, StateFailure
from agent.model.views import DrainView
from agent.state import Batch
from agent.upstream.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.state import StateStore

ACTIVE: Final = "ACTIVE"
DRAINING: Final = "DRAINING"
CALL_LIMIT_S: Final = 60.0
RETRY_S: Final = (1.0, 60.0)
"""First and longest wait before control is told again."""
LOOK_EVERY_S: Final = 60.0
"""How often the instance is compared with the one that was told."""
LEAVE_LOOK_S: Final = 0.2
"""How often a host that goes down looks whether its tasks have ended."""
END_LIMIT_S: Final = 60.0
"""For the tasks that a shutdown stops."""
REPORT_LIMIT_S: Final = 10.0
"""For the reports of their ends; what is not sent by then is sent after the next start."""
_KEY: Final = "drain"

_log = structlog.get_logger()


class DrainWish(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants of this host."""

    wanted: bool = False
    since: float = 0.0
    """Unix time of the order; 0 if there never was one."""
    deadline: float = 0.0
    """Unix time from which on the remaining tasks are stopped; 0 for never."""
    until_restart: bool = False
    """Whether the next process lifts it: it was ordered by a shutdown, not by an operator."""
    told_to: str = ""
    """ARN of the instance whose status control has set accordingly; empty for none."""


class Drain:
    """The wish of one host. Open it with ``Drain.open``; belongs to one event loop."""

    def __init__(self, store: StateStore, wish: DrainWish) -> None:
        self._store = store
        self._wish = wish
        self._changed = asyncio.Condition()
        self.trouble = ""
        """Why control could not be told; empty if it was, or was not tried yet."""

    @classmethod
    async def open(cls, store: StateStore) -> Drain:
        """Return the wish that an earlier process was told; raises ``StateFailure``."""
        saved = await store.get_meta(_KEY)
        try:
            wish = msgspec.json.decode(saved, type=DrainWish) if saved else DrainWish()
        except BAD_JSON as error:
            _log.error(
                "the stored drain cannot be read; run 'ecs-agent drain' again", error=str(error)
            )
            wish = DrainWish()
        drain = cls(store, wish)
        if wish.wanted and wish.until_restart:
            await drain.order(wanted=False)
        return drain

    @property
    def wish(self) -> DrainWish:
        """What is wanted now."""
        return self._wish

    @property
    def view(self) -> DrainView:
        """The wish as operators see it."""
        wish = self._wish
        return DrainView(
            wanted=wish.wanted,
            since=wish.since,
            deadline=wish.deadline,
            told=bool(wish.told_to) or not wish.since,
            trouble=self.trouble,
        )

    async def order(
        self, *, wanted: bool, deadline: float = 0.0, until_restart: bool = False
    ) -> None:
        """Take an order; durable when this returns.

        Args:
            wanted: whether the host is to take no new tasks.
            deadline: Unix time from which on the remaining tasks are stopped; 0 for never.
            until_restart: whether the next process lifts it.

        Raises:
            StateFailure: it could not be stored, and is not taken.
        """
        before = self._wish
        same = before.wanted == wanted and before.since
        wish = DrainWish(
            wanted=wanted,
            since=before.since if same else time.time(),
            deadline=deadline if wanted else 0.0,
            until_restart=wanted and until_restart,
            told_to=before.told_to if same else "",
        )
        await self._keep(wish)
        _log.warning(
            "draining the host" if wanted else "the host takes tasks again", deadline=deadline
        )

    async def _keep(self, wish: DrainWish) -> None:
        batch = Batch()
        batch.put_meta(_KEY, msgspec.json.encode(wish).decode())
        await self._store.commit(batch)
        self._wish = wish
        if not wish.told_to:
            self.trouble = ""
        async with self._changed:
            self._changed.notify_all()

    async def changed(self, than: DrainWish, *, within_s: float) -> None:
        """Return once the wish is another one, or after ``within_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self._wish != than)

    async def told(self, wish: DrainWish, instance_arn: str) -> None:
        """Record that control has set the status of an instance as this wish wants it.

        Raises:
            StateFailure: it could not be stored; control must be told again.
        """
        self.trouble = ""
        if self._wish == wish:
            await self._keep(msgspec.structs.replace(wish, told_to=instance_arn))


async def stop_at_deadline(drain: Drain, stop_all: Callable[[], Awaitable[None]]) -> None:
    """Stop the remaining tasks whenever the deadline of a drain has come; runs until cancelled."""
    done = DrainWish()
    while True:
        wish = drain.wish
        left_s = wish.deadline - time.time()
        if not wish.wanted or not wish.deadline or wish.deadline == done.deadline:
            await drain.changed(wish, within_s=LOOK_EVERY_S)
        elif left_s > 0:
            # In pieces, because somebody may set the clock.
            await drain.changed(wish, within_s=min(left_s, LOOK_EVERY_S))
        else:
            try:
                await stop_all()
                done = wish
            except StateFailure as error:
                _log.warning("tasks not stopped yet; trying again", error=str(error))
                await drain.changed(wish, within_s=RETRY_S[1])


class Leaving(NamedTuple):
    """What a host is left with: how far it is, and how to stop what runs."""

    running: Callable[[], int]
    """How many tasks have not stopped."""
    unsent: Callable[[], int]
    """How many reports control has not acknowledged."""
    stop_all: Callable[[], Awaitable[None]]


async def leave_host(drain: Drain, leaving: Leaving, *, limit_s: float) -> None:
    """Drain the host because it goes down; return when no task is left and control knows it.

    The tasks have ``limit_s`` to be moved elsewhere; the rest is then stopped. A drain that an operator
    ordered outlives the restart, this one does not.
    """
    _log.warning("the host goes down: draining it first", tasks=leaving.running(), limit_s=limit_s)
    if not drain.wish.wanted:
        await drain.order(wanted=True, until_restart=True)
    if not await _within(limit_s, lambda: leaving.running() == 0):
        await leaving.stop_all()
    ended = await _within(END_LIMIT_S, lambda: leaving.running() == 0)
    if not ended or not await _within(REPORT_LIMIT_S, lambda: leaving.unsent() == 0):
        left = {"tasks": leaving.running(), "reports": leaving.unsent()}
        _log.warning("the host goes down before control has all reports; they follow later", **left)


async def _within(limit_s: float, is_so: Callable[[], bool]) -> bool:
    """Wait for something that nothing tells of; a shutdown is the only one who does."""
    end = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(min(LEAVE_LOOK_S, max(0.0, end - time.monotonic())))
    return True


class DrainTeller:
    """Tells control the wish; one loop of a control client.

    Args:
        drain: the wish.
        instance: returns the ARN of this host's instance once it is registered.
        tell: has control set a status; returns why it did not, empty if it did.
    """

    def __init__(
        self,
        drain: Drain,
        instance: Callable[[], Awaitable[str]],
        tell: Callable[[str], Awaitable[str]],
    ) -> None:
        self._drain = drain
        self._instance = instance
        self._tell = tell

    async def run(self) -> None:
        """Tell control each wish until cancelled; failures are retried."""
        backoff = Backoff(*RETRY_S)
        while True:
            wish = self._drain.wish
            arn = await self._instance()
            # A host that never drained, or takes tasks as a new instance, is ACTIVE anyway.
            is_due = wish.since and (wish.told_to != arn if wish.wanted else not wish.told_to)
            if not is_due:
                await self._drain.changed(wish, within_s=LOOK_EVERY_S)
                continue
            status = DRAINING if wish.wanted else ACTIVE
            try:
                async with asyncio.timeout(CALL_LIMIT_S):
                    trouble = await self._tell(status)
                if not trouble:
                    await self._drain.told(wish, arn)
            except TimeoutError:
                trouble = f"no answer within {CALL_LIMIT_S:g} s"
            except (ControlFailure, AwsFailure, StateFailure) as error:
                trouble = str(error)
            if trouble:
                if trouble != self._drain.trouble:
                    _log.warning("control not told yet; trying again", status=status, error=trouble)
                self._drain.trouble = trouble
                await self._drain.changed(wish, within_s=backoff.next_s())
                continue
            backoff.reset()
            _log.info("control has set the status of this instance", status=status)
