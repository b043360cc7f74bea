"""The thread for netlink, with its one host socket.

The kernel executes a netlink request inside ``sendmsg``: removing a link blocks the caller for 15
ms and more. So the socket is on an event loop in a separate thread, and the daemon's loop never
waits for the kernel. ``pyroute2`` is imported only in this module, ``links`` and ``interior``.

Tests: ``tests/integration/network/test_sandbox.py``, ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.errors import NetworkFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")

CALL_LIMIT_S = 20.0
_START_LIMIT_S = 10.0
_JOIN_LIMIT_S = 5.0


class NetlinkLane:
    """One thread with an event loop and a routing socket in the host's namespace.

    ``start`` and ``close`` belong to the daemon's loop. Any number of its tasks may use ``call`` at
    once; their requests are interleaved on the one socket.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._host: Any = None

    async def start(self) -> None:
        """Open the socket; idempotent.

        Raises:
            NetworkFailure: the kernel returned no socket.
        """
        if self._thread is not None:
            return
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def answer(error: BaseException | None) -> None:
            if ready.done():
                return
            if error is None:
                ready.set_result(None)
            else:
                ready.set_exception(NetworkFailure(f"no netlink socket: {error}"))

        def tell(error: BaseException | None) -> None:
            loop.call_soon_threadsafe(answer, error)

        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(tell)), name="netlink", daemon=True
        )
        self._thread.start()
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await ready
        except TimeoutError:
            raise NetworkFailure(f"no netlink socket within {_START_LIMIT_S:g} s") from None

    async def _serve(self, tell: Callable[[BaseException | None], None]) -> None:
        try:
            host = AsyncIPRoute(ext_ack=True)
            # Otherwise parallel first requests would each create an endpoint and lose it.
            await host.setup_endpoint()
        except OSError as error:
            tell(error)
            return
        self._loop, self._stop, self._host = asyncio.get_running_loop(), asyncio.Event(), host
        tell(None)
        try:
            await self._stop.wait()
        finally:
            host.close()

    async def call(
        self, work: Callable[[Any], Coroutine[Any, Any, T]], *, limit_s: float = CALL_LIMIT_S
    ) -> T:
        """Run ``work(host socket)`` in the lane's thread and return its result.

        Cancelling the call cancels the work.

        Raises:
            NetworkFailure: the kernel refused, the deadline passed, or the lane is closed.
        """
        if self._loop is None or self._loop.is_closed():
            raise NetworkFailure("the netlink lane is not running")
        future = asyncio.run_coroutine_threadsafe(work(self._host), self._loop)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise NetworkFailure(f"the kernel did not answer within {limit_s:g} s") from None
        except NetlinkError as error:
            raise failure("a netlink request", error) from error

    async def close(self) -> None:
        """Close the socket and end the thread; calls in flight fail. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(thread.join, _JOIN_LIMIT_S)
        self._loop = self._host = None


def failure(what: str, error: NetlinkError) -> NetworkFailure:
    """Return the failure of a request, with the kernel's error text."""
    words = str(error.args[1]) if len(error.args) > 1 and error.args[1] else os.strerror(error.code)
    return NetworkFailure(f"{what} failed: {words} ({errno.errorcode.get(error.code, error.code)})")


async def pipelined(*requests: Awaitable[Any]) -> list[Any]:
    """Send requests in order without waiting for each; return each one's ``NetlinkError`` or None.

    Later requests are sent even if an earlier one fails. Errors of other kinds are raised.
    """
    answers = await asyncio.gather(*requests, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, NetlinkError):
            raise answer
    return [answer if isinstance(answer, BaseException) else None for answer in answers]


def refused(error: NetlinkError | None, *tolerated: int) -> bool:
    """Return whether a request failed with an error number that is not tolerated."""
    return error is not None and error.code not in tolerated
