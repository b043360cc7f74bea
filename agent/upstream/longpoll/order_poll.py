"""The loop that asks control for orders, and hands them on.

::

    GET assignments?after=REV ─► credentials kept ─► take(orders) durable ─► after = revision

The revision is only in memory: a new process gets everything and converges. An answer from an older state
of control than one seen before is not obeyed (``watermark``). Failures are retried for ever with backoff.

Tests: ``tests/unit/upstream/longpoll/test_client.py``, ``tests/unit/upstream/longpoll/test_liveness.py``.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import (
    ControlFailure,
    ControlUnavailable,
    InstanceUnknown,
    StaleGeneration,
    StateFailure,
)
from agent.model.liveness import WORK_S, Liveness
from agent.upstream.longpoll.answers import RevisionCompacted
from agent.upstream.longpoll.credentials import issued
from agent.upstream.longpoll.watermark import Watermark, cautious, went_back

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.model.wire import Assignments, CommandOrder
    from agent.upstream.backoff import Backoff, OutageBackoff
    from agent.upstream.connection import ConnectionStatus
    from agent.upstream.longpoll.answers import ReadAssignments
    from agent.upstream.longpoll.exchange import Identity
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.longpoll.registration import LongPollRegistration
    from agent.upstream.protocol import CredentialStore, TakeAssignments

    StartCommands = Callable[[Identity, Sequence[CommandOrder]], Awaitable[None]]

_log = structlog.get_logger()

TAKE_LIMIT_S: Final = 180.0
"""Time limit for taking orders, which only have to be written to disk."""


class WentBack(ControlFailure):
    """An answer is from an older state of control than one seen before."""


class OrderPoll:
    """The loop of one client."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        client: HttpClient,
        registration: LongPollRegistration,
        link: ConnectionStatus,
        backoff: Backoff,
        outage: OutageBackoff,
        *,
        watermark: Watermark,
        take: TakeAssignments,
        credentials: CredentialStore,
        start_commands: StartCommands,
        wait_s: float,
        call_limit_s: float,
    ) -> None:
        """Nobody is asked before ``run``; ``wait_s`` is how long control may hold a poll."""
        self.liveness = Liveness("control loop")
        self.instance_status = ""
        """ACTIVE or DRAINING, as control said last; empty until it has."""
        self.trouble = ""
        """Why the last orders could not be taken; empty if they were."""
        self._client = client
        self._registration = registration
        self._link = link
        self._backoff = backoff
        self._outage = outage
        self._watermark = watermark
        self._take = take
        self._credentials = credentials
        self._start_commands = start_commands
        self._credentials_serial = 0
        """Of the newest credentials that came; of one run of control, as the revision is."""
        self._longest_wait_s = wait_s
        self._call_limit_s = call_limit_s

    async def run(self) -> None:
        """Ask until cancelled.

        Raises:
            StaleGeneration: another agent registered as this instance; this process must stop.
        """
        await self._renew(None)
        identity = await self._registration.identity()
        loop = asyncio.get_running_loop()
        after = 0
        while True:
            newest = await self._registration.identity()
            if newest is not identity:
                # The new registration may be with another store with other revision numbers.
                identity, after = newest, 0
            began = loop.time()
            try:
                after = await self._poll_once(identity, after)
            except InstanceUnknown as error:
                self._link.down(error)
                await self._pause(self._backoff.next_s())
                await self._renew(identity)
            except WentBack as error:
                self._link.down(error)
                await self._pause(self._backoff.next_s())
                await self._ask_again(identity)
            except StaleGeneration as error:
                with self.liveness.resting("waiting for a registration"):
                    await self._registration.overtaken(identity, error)
            except ControlFailure as error:
                if isinstance(error, RevisionCompacted) and after:
                    after = 0
                    # After a restart of control all agents need everything: spread them over time,
                    # and never loop without a pause.
                    await self._pause(self._backoff.next_s())
                    continue
                self._link.down(error)
                await self._pause(self._wait_after(error, took_s=loop.time() - began))

    async def _pause(self, seconds: float) -> None:
        """Pause the poll loop, recording when it continues; the other loops pause by ``link``."""
        self._link.try_in(seconds)
        with self.liveness.within(seconds + WORK_S, "waiting before the next try"):
            await self._link.pause(seconds)

    async def _renew(self, used: Identity | None) -> None:
        with self.liveness.resting("waiting for a registration"):
            await self._registration.renew(used)

    async def _ask_again(self, identity: Identity) -> None:
        """Register again, so that control compares the watermark; its answer decides."""
        await self._renew(identity)
        newest = await self._registration.identity()
        if newest.history:
            self._watermark.begin(newest.control_id, newest.history)

    def _wait_after(self, error: ControlFailure, *, took_s: float) -> float:
        """Return how long to wait after control was unavailable or answered with an error."""
        asked_s = error.retry_after_s if isinstance(error, ControlUnavailable) else 0.0
        if isinstance(error, ControlUnavailable) and error.away:
            return self._outage.next_s(asked_s, took_s=took_s)
        self._outage.over()
        return self._backoff.next_s(asked_s)

    async def _poll_once(self, identity: Identity, after: int) -> int:
        """Make one poll and pass its orders on; return the revision to poll after next."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        wait_s = self._wait_s(identity)
        with self.liveness.within(self._call_limit_s + wait_s + WORK_S, "polling"):
            read = await self._client.assignments(
                identity,
                after=after,
                wait_s=wait_s,
                credentials_after=self._credentials_serial if after else 0,
            )
        self._link.up()
        self._outage.over()
        took_s = loop.time() - began
        if read is None:
            await self._pace(took_s, wait_s)
            return after
        _log_troubles(read)
        orders = read.assignments
        if orders.revision < after and not orders.full:
            _log.warning("control went back in time", revision=orders.revision, after=after)
            await self._pause(self._backoff.next_s())
            return 0
        why = went_back(self._watermark.seen, identity.control_id, orders)
        if why and orders.history:
            raise WentBack(f"control went back in time: {why}")
        if why:
            _log.warning("control went back in time; its stops are ignored", reason=why)
            orders = cautious(orders)
        # Before the orders: what they start may need them at once.
        for each in issued(orders):
            self._credentials.keep(each.task_arn, each.role_type, each.credentials)
        if orders.commands:
            await self._start_commands(identity, orders.commands)
        if not await self._hand_on(orders, identity):
            return after
        self._credentials_serial = orders.credentials_serial
        if not why:
            self._watermark.taken(identity.control_id, orders)
        if orders.revision == after and not orders.commands:
            await self._pace(took_s, wait_s)
        else:
            self._backoff.reset()
        return orders.revision

    def _wait_s(self, identity: Identity) -> float:
        """Return how long a poll may be held: less than the lease, which it renews.

        The first one after a failure is not held, so that its answer shows at once that control is
        back.
        """
        if not self._link.connected:
            return 0.0
        if identity.lease_s <= 0:
            return self._longest_wait_s
        return min(self._longest_wait_s, max(1.0, identity.lease_s / 2))

    async def _pace(self, took_s: float, wait_s: float) -> None:
        """Slow down if control answers at once without news, instead of polling in a tight loop."""
        if took_s < min(1.0, wait_s / 2):
            await self._pause(self._backoff.next_s())
        else:
            self._backoff.reset()

    async def _hand_on(self, orders: Assignments, identity: Identity) -> bool:
        """Pass the orders to the engine; False if it could not take them, and they come again."""
        try:
            with self.liveness.within(TAKE_LIMIT_S, "taking orders"):
                await self._take(orders, identity.control_id, identity.instance_arn)
        except StateFailure as error:
            # The store has logged it.
            self.trouble = f"orders could not be taken: {error}"
        except Exception as error:  # noqa: BLE001 - no order may end the agent
            told = f"{type(error).__name__}: {error}"
            _log.error(
                "orders could not be taken", revision=orders.revision, error=told, at=_trace(error)
            )
            self.trouble = f"orders could not be taken: {told}"
        else:
            self.trouble = ""
            self.instance_status = orders.instance_status
            return True
        await self._pause(self._backoff.next_s())
        return False


def _log_troubles(read: ReadAssignments) -> None:
    if read.troubles:
        _log.error(
            "orders could not be read",
            revision=read.assignments.revision,
            count=len(read.troubles),
            first=read.troubles[0],
        )


def _trace(error: BaseException) -> list[str]:
    """Return where an error came from, innermost last. Reads no source files: that would block."""
    return [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
