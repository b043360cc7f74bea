"""Answers that are streams of lines of JSON, for as long as a reader wants them.

A reader that reads nothing for a minute is cut off, and so is one whose source fails, or who may not read any more:
it does not take what it has for all that there is, and comes again.

Tests: ``tests/unit/controlplane/front/test_event_stream.py``, ``tests/unit/controlplane/console/test_stream.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from aiohttp import web

from agent.controlplane.front.operators import CALL
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from agent.controlplane.authorization.open_calls import OpenCalls

KEEP_ALIVE_S: Final = 15.0
"""After so long without a line, an empty one is sent, so that either side notices when the other is gone."""
_WRITE_LIMIT_S: Final = 60.0


class TooManyReaders(Exception):
    """So many read already that no more are taken."""


class LineStreams:
    """All streams of one kind of one control endpoint; for one event loop."""

    def __init__(self, what: str, open_calls: OpenCalls) -> None:
        """Begin without readers.

        Args:
            what: is read, for errors.
            open_calls: tells when a reader may not read any more.
        """
        self._what = what
        self._open_calls = open_calls
        self._readers: Counter[str] = Counter()
        self.ended = asyncio.Event()
        """Whether all streams are to end."""

    def close(self) -> None:
        """End all streams; may be called twice."""
        self.ended.set()

    async def answer(
        self,
        request: web.Request,
        lines: AsyncGenerator[bytes, None],
        *,
        most: int,
        most_of_one: int,
    ) -> web.StreamResponse:
        """Send lines until the reader is gone or there are no more.

        Args:
            request: the call, permitted by ``operators.permit``.
            lines: what is sent; ends soon after ``ended`` is set.
            most: how many readers there may be.
            most_of_one: how many of them may be of one caller.

        Raises:
            TooManyReaders: nothing was sent.
        """
        who = _caller(request)
        if self._readers.total() >= most:
            raise TooManyReaders(f"{most} readers follow {self._what} already; try again later")
        if self._readers[who] >= most_of_one:
            raise TooManyReaders(
                f"{most_of_one} readers of yours follow {self._what} already; end one of them"
            )
        response = web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
        )
        self._readers[who] += 1
        try:
            await response.prepare(request)
            async with self._while_allowed(request), contextlib.aclosing(lines):
                async for line in lines:
                    async with asyncio.timeout(_WRITE_LIMIT_S):
                        await response.write(line)
            async with asyncio.timeout(_WRITE_LIMIT_S):
                await response.write_eof()
        except (ConnectionError, TimeoutError, StoreFailure):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._readers[who] -= 1
            if not self._readers[who]:
                del self._readers[who]
        return response

    @contextlib.asynccontextmanager
    async def _while_allowed(self, request: web.Request) -> AsyncGenerator[None, None]:
        """Raise ``TimeoutError`` inside once the caller may not make the call any more."""
        now = asyncio.get_running_loop().time
        async with asyncio.timeout(None) as scope:
            release = self._open_calls.hold(request[CALL], lambda: scope.reschedule(now()))
            try:
                yield
            finally:
                release()


def _caller(request: web.Request) -> str:
    """Return who reads: the key, the principal, or without any the address."""
    who = request[CALL].caller
    return who.key_id or who.arn or request.remote or ""
