"""Tells the program of one capacity provider in one cluster what should be, until it is so.

It is told at once when that changes, one run after the other; again after a minute, and then less and less often,
while the hosts are not as they should be; and after a failure with longer and longer waits.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane.host_scaling import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.controlplane.host_scaling.decision import Order
    from agent.controlplane.host_scaling.hooks import Hook, HostHooks, Pair

FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 300.0
FIRST_REPEAT_S: Final = 60.0
LONGEST_REPEAT_S: Final = 600.0
_REMIND_S: Final = 300.0

_log = structlog.get_logger(__name__)


class Caller:
    """For one event loop."""

    def __init__(self, pair: Pair, hooks: HostHooks, note: Path, told: Callable[[], None]) -> None:
        """Take where a run is noted, and what to call after a run that did well."""
        self.pair = pair
        self.done: Order | None = None
        """What the program was told last with success."""
        self._hooks = hooks
        self._note = note
        self._told = told
        self._hook: Hook | None = None
        self._order: Order | None = None
        self._document = b""
        self._changed = asyncio.Event()
        self._trouble = ""
        self._logged_at = 0.0

    def want(self, hook: Hook, order: Order, document: bytes) -> None:
        """Have the program told what should be now; the same again changes nothing."""
        is_new = (
            self._order is None
            or order.key != self._order.key
            or hook != self._hook
            or order.is_met != self._order.is_met
        )
        self._hook, self._order, self._document = hook, order, document
        if is_new:
            self._changed.set()

    async def run(self) -> None:
        """Work until cancelled."""
        failures = repeats = 0
        while True:
            hook, order = self._hook, self._order
            if hook is None or order is None or self._is_done(order):
                failures = repeats = 0
                await self._changed.wait()
                self._changed.clear()
                continue
            is_same = self.done is not None and self.done.key == order.key
            repeats = repeats + 1 if is_same else 0
            self._changed.clear()
            try:
                trouble = await program.run(hook, self._document, self._note)
            except Exception as error:  # noqa: BLE001 - must not stop control, whatever it is
                trouble = repr(error)
            self._tell(trouble, order)
            if trouble:
                failures += 1
                await asyncio.sleep(
                    min(FIRST_WAIT_S * 2.0 ** min(failures - 1, 10), LONGEST_WAIT_S)
                )
                continue
            failures, self.done = 0, order
            self._told()
            await self._pause(min(FIRST_REPEAT_S * 2.0 ** min(repeats, 10), LONGEST_REPEAT_S))

    def _is_done(self, order: Order) -> bool:
        return order.is_met and self.done is not None and self.done.key == order.key

    async def _pause(self, seconds: float) -> None:
        """Wait for a time, or until what should be changes."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _tell(self, trouble: str, order: Order) -> None:
        """Show and log what is in the way; the log has it when it is new and then every few minutes."""
        about = {"cluster": self.pair.cluster, "capacity_provider": self.pair.provider}
        self._hooks.runs[self.pair.provider, "failed" if trouble else "done"] += 1
        now = time.monotonic()
        if trouble and (trouble != self._trouble or now - self._logged_at >= _REMIND_S):
            _log.warning("hosts cannot be added or removed; trying again", **about, error=trouble)
            self._logged_at = now
        elif not trouble:
            _log.info(
                "program of hosts ran", **about, desired=order.hosts, removed=len(order.remove)
            )
        self._trouble = trouble
        if trouble:
            self._hooks.troubles[self.pair] = f"Hosts cannot be added or removed: {trouble}."
        else:
            self._hooks.troubles.pop(self.pair, None)
