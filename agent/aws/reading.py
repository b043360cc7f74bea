"""Reads files and runs helper programs for credentials, in a thread and with a deadline.

Uses only threads. One read runs at a time: a file on a dead network share may hang its thread
forever, and further threads must not hang too. The thread is a daemon, so that it does not keep the
process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Reader:
    """Runs one piece of blocking work at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._busy = False

    async def read(self, work: Callable[[], T], limit_s: float) -> T:
        """Return what ``work`` returns, or raise what it raises.

        Raises:
            TimeoutError: this or an earlier read did not end in time, or no thread can be started.
                A hanging thread is left behind; until it ends, every other call raises this too.
        """
        async with asyncio.timeout(limit_s), self._turn:
            if self._busy:
                raise TimeoutError("an earlier read still hangs")
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[T] = loop.create_future()
            thread = threading.Thread(
                target=self._run, args=(loop, answer, work), name="credentials", daemon=True
            )
            self._busy = True
            try:
                thread.start()
            except RuntimeError as error:
                self._busy = False
                raise TimeoutError(f"cannot start a thread: {error}") from None
            return await answer

    def _run(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], work: Callable[[], T]
    ) -> None:
        settle: Callable[[], None]
        try:
            settle = functools.partial(answer.set_result, work())
        except Exception as error:  # noqa: BLE001 - passed to the waiting caller
            settle = functools.partial(answer.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop ended before the work did
            loop.call_soon_threadsafe(self._deliver, answer, settle)

    def _deliver(self, answer: asyncio.Future[T], settle: Callable[[], None]) -> None:
        self._busy = False
        if not answer.done():
            settle()
