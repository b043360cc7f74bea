"""Deadlines of leases: one timer each; a keep-alive moves it without using the disk.

Deadlines are monotonic and only in memory. After a restart every lease starts with its full time,
because nobody could renew it while the store was stopped. Everything runs on the store's event loop.

Tests: ``tests/unit/controlplane/store/test_sqlite.py``,
``tests/unit/controlplane/store/test_contract.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

_RETRY_S = 1.0


class _Lease(Struct):
    ttl_s: float
    deadline: float
    timer: asyncio.TimerHandle


class LeaseTimers:
    """Calls ``expire(lease)`` when a lease ends; the lease is unknown from then on."""

    def __init__(self, expire: Callable[[int], None]) -> None:
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._leases: dict[int, _Lease] = {}

    def start(self, lease: int, ttl_s: float) -> None:
        """Start the timer of a lease."""
        timer = self._loop.call_later(ttl_s, self._check, lease)
        self._leases[lease] = _Lease(ttl_s, self._loop.time() + ttl_s, timer)

    def renew(self, lease: int) -> bool:
        """Restart the timer of a lease; False if the lease has ended."""
        known = self._leases.get(lease)
        if known is None:
            return False
        known.deadline = self._loop.time() + known.ttl_s
        return True

    def forget(self, lease: int) -> None:
        """Stop the timer of a lease; an unknown lease is ignored."""
        known = self._leases.pop(lease, None)
        if known is not None:
            known.timer.cancel()

    def retry(self, lease: int) -> None:
        """Call ``expire`` again after a while, because the store could not end the lease."""
        self._loop.call_later(_RETRY_S, self._expire, lease)

    def close(self) -> None:
        """Stop all timers."""
        for lease in list(self._leases):
            self.forget(lease)

    def _check(self, lease: int) -> None:
        known = self._leases[lease]
        left_s = known.deadline - self._loop.time()
        if left_s > 0:
            known.timer = self._loop.call_later(left_s, self._check, lease)
            return
        del self._leases[lease]
        self._expire(lease)
