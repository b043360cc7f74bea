"""Makes the calls of one preparation a few at once, and chooses which failure counts. No I/O of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from agent.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

T = TypeVar("T")

AT_ONCE: Final = 8
"""Calls that one preparation of a task may have under way."""


async def together(
    calls: Iterable[Callable[[], Awaitable[T]]], *, limit_s: float, late: str
) -> list[T]:
    """Return what the calls return, in their order.

    Args:
        calls: each is made once.
        limit_s: for all of them together.
        late: text of the failure where that is not enough.

    Raises:
        PayloadError: calls failed with it, and their texts are joined; or the time is over.
        AgentError: another failure of a call, where none ends the task.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with turn:
            return await call()

    try:
        async with asyncio.timeout(limit_s):
            ended = await asyncio.gather(*map(one, calls), return_exceptions=True)
    except TimeoutError:
        raise unfetched(late) from None
    failed = [end for end in ended if isinstance(end, BaseException)]
    final = [error for error in failed if isinstance(error, PayloadError)]
    if final:
        raise PayloadError(";".join(dict.fromkeys(str(error) for error in final)))
    if failed:
        raise failed[0]
    return [end for end in ended if not isinstance(end, BaseException)]


def unfetched(text: str) -> PayloadError:
    """Return the failure of a task for which something could not be fetched; on one line."""
    line = " ".join(text.split())
    return PayloadError(line[:1].upper() + line[1:])
