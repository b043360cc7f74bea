"""Turns of calls that are done one after the other: who would wait too long is told so at once.

Without a bound, calls that come faster than they can be done wait until their time is up: each is begun shortly
before that, is not finished, and is made again, so that none is done at all.

Tests: ``tests/unit/controlplane/api/ecs/test_turns.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from agent.controlplane.front.errors import ThrottlingException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAIT_S: Final = 10.0
"""How long a call waits for its turn: well below the time that a call may take as a whole."""
_ALWAYS: Final = 4
"""So many calls are admitted even if one turn has taken very long."""
_WEIGHT: Final = 0.1
"""Of the last turn, in how long a turn takes."""


class Turns:
    """First come, first served; for one event loop."""

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._lock = asyncio.Lock()
        self._admitted = 0
        self._takes_s = 0.0
        """How long a turn takes, by the last ones."""

    @contextlib.asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Count a call that will want a turn, from before it costs anything until it ends.

        Raises:
            ThrottlingException: those before it take too long.
        """
        if self._admitted >= _ALWAYS and self._admitted * self._takes_s > self._wait_s:
            raise self._refusal()
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn of a call that was admitted.

        Raises:
            ThrottlingException: it did not come in time.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                await self._lock.acquire()
        except TimeoutError:
            raise self._refusal() from None
        began = time.monotonic()
        try:
            yield
        finally:
            self._lock.release()
            self._takes_s += _WEIGHT * (time.monotonic() - began - self._takes_s)

    def _refusal(self) -> ThrottlingException:
        return ThrottlingException(
            f"Rate exceeded: {self._admitted} calls are before this one, of {self._takes_s:.2g} s each. "
            "Nothing was done; try again later."
        )
