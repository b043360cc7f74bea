"""A queue that carries out orders one at a time, in the order of arrival.

The reader of a connection adds orders and never waits; one task takes them out. The queue outlives
a connection, so that its end does not interrupt an order.

An order that does not fit is dropped without an answer, and so are all later ones until the queue
is empty, to keep the order. Amazon ECS sends unacknowledged orders again. No I/O.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.model.liveness import Liveness
from agent.throttle import RepeatedWarning
from agent.upstream.connection import WARN_EVERY_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import msgspec

    from agent.upstream.amazon.registration import Instance

ORDER_LIMIT: Final = 1000
BYTE_LIMIT: Final = 32 * 1024 * 1024


class AcsMessage(NamedTuple):
    """One message that orders something, and how to answer it."""

    type: str
    message: msgspec.Raw
    at: float
    """Unix time of its arrival."""
    instance: Instance
    """This host's identity on the connection on which it arrived."""
    answer: Callable[[bytes], Awaitable[None]]
    """Sends a text frame on that connection; raises ``SocketClosed``."""


class MessageQueue:
    """A bounded queue with one worker. Belongs to one event loop."""

    def __init__(
        self,
        carry_out: Callable[[AcsMessage], Awaitable[None]],
        *,
        work_limit_s: float,
        orders: int = ORDER_LIMIT,
        size: int = BYTE_LIMIT,
    ) -> None:
        """Create the queue.

        Args:
            carry_out: carries out an order; must not raise.
            work_limit_s: how long one order may take before the agent counts as hanging.
            orders: maximum number of waiting orders.
            size: maximum bytes of all waiting messages.
        """
        self.liveness = Liveness("orders of Amazon ECS")
        self._carry_out = carry_out
        self._work_limit_s = work_limit_s
        self._orders = orders
        self._size = size
        self._waiting: deque[AcsMessage] = deque()
        self._bytes = 0
        self._overflowed = False
        self._news = asyncio.Event()
        self._dropped = RepeatedWarning(
            "too many orders wait: dropped some, which will be sent again", every_s=WARN_EVERY_S
        )

    def put(self, order: AcsMessage) -> bool:
        """Queue an order; return False if it was dropped. Never waits."""
        size = memoryview(order.message).nbytes
        full = len(self._waiting) >= self._orders or self._bytes + size > self._size
        # An empty queue accepts one order of any size, or it would never be carried out.
        if self._overflowed or (full and self._waiting):
            self._overflowed = True
            self._dropped.tell(type=order.type, waiting=len(self._waiting), bytes=self._bytes)
            return False
        self._waiting.append(order)
        self._bytes += size
        self._news.set()
        return True

    async def run(self) -> None:
        """Carry out orders until cancelled."""
        try:
            while True:
                while self._waiting:
                    await self._next()
                self._overflowed = False
                self._news.clear()
                with self.liveness.resting("no orders"):
                    await self._news.wait()
        finally:
            self.liveness.rest()

    async def _next(self) -> None:
        order = self._waiting[0]
        try:
            with self.liveness.within(self._work_limit_s, f"carrying out a {order.type}"):
                await self._carry_out(order)
        finally:
            self._waiting.popleft()
            self._bytes -= memoryview(order.message).nbytes
