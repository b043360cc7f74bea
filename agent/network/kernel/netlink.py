"""The thread for netlink, with its one host socket.

The kernel executes a netlink request inside ``sendmsg``: removing a link blocks the caller for 15
ms and more. So the socket is on an event loop in a separate thread, and the daemon's loop never
waits for the kernel. Sockets in the namespaces of tasks are opened in the same thread.

Tests: ``tests/integration/network/test_sandbox.py``, ``tests/integration/network/test_repairs.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from agent.errors import NetworkFailure
from agent.network.kernel.namespaces import netlink_socket_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

T = TypeVar("T")

LINK_SCOPE: Final = 253
"""``RT_SCOPE_LINK``: of routes that lead no further than the link, and of link-local addresses."""
PERMANENT: Final = 0x80
"""``NUD_PERMANENT``: a neighbour of which nothing is asked or learned."""
NO_DAD: Final = 0x02
"""``IFA_F_NODAD``: an address that was given to one interface alone is used at once, and nobody is asked
whether he has it, too."""
NO_IPV6_ADDRESS: Final = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}
"""Keeps the kernel from giving a link an IPv6 address by itself."""
CALL_LIMIT_S = 20.0
_START_LIMIT_S = 10.0
_JOIN_LIMIT_S = 5.0
_DUMP_TRIES = 5


class _Inside(NamedTuple):
    """What runs in the thread."""

    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    host: Any
    """The socket, for code on ``loop`` alone."""

    def end(self) -> None:
        """End the thread soon; may be called from any thread, and repeated."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.stop.set)


class NetlinkLane:
    """One thread with an event loop and a routing socket in the host's namespace.

    ``open`` and ``close`` belong to the daemon's loop. Any number of its tasks may use ``call`` at
    once; their requests are interleaved on the one socket.
    """

    def __init__(self, thread: threading.Thread, inside: _Inside) -> None:
        """Take a thread that serves requests; see ``open``."""
        self._thread = thread
        self._inside = inside
        self._closed = False
        self._dumping = asyncio.Lock()

    @classmethod
    async def open(cls) -> NetlinkLane:
        """Start the thread and open the socket in it.

        Raises:
            NetworkFailure: the kernel returned no socket.
        """
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[_Inside] = loop.create_future()

        def answer(inside: _Inside | None, error: BaseException | None) -> None:
            if ready.done():
                if inside is not None:
                    inside.end()  # nobody waits for it any more
            elif inside is not None:
                ready.set_result(inside)
            else:
                ready.set_exception(NetworkFailure(f"no netlink socket: {error}"))

        def tell(inside: _Inside | None, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(answer, inside, error)

        thread = threading.Thread(
            target=lambda: asyncio.run(_serve(tell)), name="netlink", daemon=True
        )
        thread.start()
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                return cls(thread, await ready)
        except TimeoutError:
            raise NetworkFailure(f"no netlink socket within {_START_LIMIT_S:g} s") from None

    async def call(
        self, work: Callable[[Any], Coroutine[Any, Any, T]], *, limit_s: float = CALL_LIMIT_S
    ) -> T:
        """Run ``work(host socket)`` in the lane's thread and return its result.

        Cancelling the call cancels the work.

        Raises:
            NetworkFailure: the kernel refused, the deadline passed, or the lane is closed.
        """
        loop = self._inside.loop
        if self._closed or loop.is_closed():
            raise NetworkFailure("the netlink lane is not running")
        future = asyncio.run_coroutine_threadsafe(work(self._inside.host), loop)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise NetworkFailure(f"the kernel did not answer within {limit_s:g} s") from None
        except NetlinkError as error:
            raise failure("a netlink request", error) from error

    async def dump(self, request: Callable[..., Awaitable[Any]], **query: Any) -> list[Any]:
        """Return what ``dumped`` does; for requests on the host socket, inside of ``call`` alone.

        The kernel allows one dump at a time per socket, so the others wait.
        """
        async with self._dumping:
            return await dumped(request, **query)

    async def close(self) -> None:
        """Close the socket and end the thread; calls in flight fail. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._inside.end()
        await asyncio.to_thread(self._thread.join, _JOIN_LIMIT_S)


async def _serve(tell: Callable[[_Inside | None, BaseException | None], None]) -> None:
    try:
        host = AsyncIPRoute(ext_ack=True)
        # Or else the first requests, sent side by side, would each set up one and lose it.
        await host.setup_endpoint()
    except OSError as error:
        tell(None, error)
        return
    stop = asyncio.Event()
    tell(_Inside(asyncio.get_running_loop(), stop, host), None)
    try:
        await stop.wait()
    finally:
        host.close()


def failure(what: str, error: NetlinkError) -> NetworkFailure:
    """Return the failure of a request, with the kernel's error text."""
    words = str(error.args[1]) if len(error.args) > 1 and error.args[1] else os.strerror(error.code)
    return NetworkFailure(f"{what} failed: {words} ({errno.errorcode.get(error.code, error.code)})")


async def dumped(request: Callable[..., Awaitable[Any]], **query: Any) -> list[Any]:
    """Return the messages of a dump; begun again if the kernel's table changed meanwhile.

    Raises:
        NetworkFailure: it changes all the time.
    """
    for _ in range(_DUMP_TRIES):
        with contextlib.suppress(NetlinkDumpInterrupted):
            return [message async for message in await request("dump", **query)]
    raise NetworkFailure("the kernel's tables change too fast to be listed; try again")


@contextlib.asynccontextmanager
async def socket_inside(netns: int) -> AsyncIterator[Any]:
    """Open a routing socket in a namespace; closed at the end, because it keeps the namespace alive.

    Args:
        netns: descriptor of the namespace; stays open.

    Raises:
        NetworkFailure: the namespace cannot be entered.
    """
    inner = await netlink_socket_in(netns)
    ip = AsyncIPRoute(fileno=inner.detach(), ext_ack=True)
    try:
        await ip.setup_endpoint()
        yield ip
    finally:
        ip.close()


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
