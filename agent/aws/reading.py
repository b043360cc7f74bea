"""Reading files and running helper programs for credentials, off the event loop and with a deadline.

Touches threads only. One read at a time: a file on a dead network share may hang its thread for ever,
and a second one must not hang beside it. Such a thread is a daemon, so that it cannot keep the
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
            TimeoutError: the work, or that of somebody before it, did not end in time; its thread is
                left behind, and until it ends every other call raises this as well. Likewise where
                the host has no thread to give.
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
                raise TimeoutError(f"no thread can be had: {error}") from None
            return await answer

    def _run(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], work: Callable[[], T]
    ) -> None:
        settle: Callable[[], None]
        try:
            settle = functools.partial(answer.set_result, work())
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            settle = functools.partial(answer.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop ended before the work did
            loop.call_soon_threadsafe(self._deliver, answer, settle)

    def _deliver(self, answer: asyncio.Future[T], settle: Callable[[], None]) -> None:
        self._busy = False
        if not answer.done():
            settle()
