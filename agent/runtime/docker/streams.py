"""Endless answers: turns a blocking generator in a lane's thread into an async iterator.

The thread may be a fixed number of pieces ahead of the reader and then waits, so that a slow reader
slows down the engine instead of filling memory. Leaving the iteration ends the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import struct
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from agent.runtime.docker.lanes import BlockingCall, CallAborted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator

    from agent.runtime.docker.lanes import Lane

T = TypeVar("T")

FOREVER_S = 10 * 365 * 86400.0
"""Deadline of a stream that ends only when its reader leaves; sockets do not accept infinity."""

LINE_LIMIT_BYTES = 1024 * 1024

_AHEAD = 64
_HEADER = struct.Struct(">BxxxL")


class _Pipe(Generic[T]):
    """Passes pieces from one thread to the loop; neither side ever waits for a lock.

    Args:
        ahead: how many pieces the thread may be ahead.
    """

    def __init__(self, ahead: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[T] = deque()
        self._some = asyncio.Event()
        self._ended = False
        self._room: queue.SimpleQueue[bool] = queue.SimpleQueue()
        for _ in range(ahead):
            self._room.put(True)

    def put(self, piece: T) -> None:
        """Pass a piece on, waiting for room. Called by the thread."""
        if not self._room.get():
            raise CallAborted
        self._pieces.append(piece)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._some.set)

    def end(self) -> None:
        """Let ``pieces`` end after the remaining pieces. Called by the loop."""
        self._ended = True
        self._some.set()

    def close(self) -> None:
        """Wake the thread if it waits for room; its next piece ends it. Called by the loop."""
        self._room.put(False)

    async def pieces(self) -> AsyncIterator[T]:
        """Yield pieces until ``end``. Called by the loop."""
        while True:
            while self._pieces:
                yield self._pieces.popleft()
                self._room.put(True)
            if self._ended:
                return
            self._some.clear()
            if not self._pieces:
                await self._some.wait()


async def stream(
    lane: Lane, produce: Callable[[BlockingCall], Iterable[T]], *, operation: str
) -> AsyncGenerator[T, None]:
    """Iterate ``produce`` in a thread of the lane; the reader gets its errors."""
    pipe: _Pipe[T] = _Pipe(_AHEAD)

    def work(call: BlockingCall) -> None:
        for piece in produce(call):
            pipe.put(piece)

    running = asyncio.ensure_future(lane.run(work, limit_s=FOREVER_S, operation=operation))
    running.add_done_callback(lambda _: pipe.end())
    try:
        async for piece in pipe.pieces():
            yield piece
        await running
    finally:
        running.cancel()
        pipe.close()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # the reader has left, so nobody needs it


def demultiplex(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the payloads of the engine's stdout and stderr frames, however the chunks are cut.

    An incomplete frame at the end yields the part that arrived.
    """
    buffer = bytearray()
    missing = 0
    for chunk in chunks:
        buffer += chunk
        while buffer:
            if missing:
                piece = bytes(buffer[:missing])
                del buffer[: len(piece)]
                missing -= len(piece)
                yield piece
            elif len(buffer) < _HEADER.size:
                break
            else:
                missing = _HEADER.unpack_from(buffer)[1]
                del buffer[: _HEADER.size]


def frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the engine's frames whole, each with its stream, however the chunks are cut.

    An incomplete frame at the end yields the part that arrived.
    """
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _HEADER.size:
            size = _HEADER.size + _HEADER.unpack_from(buffer)[1]
            if len(buffer) < size:
                break
            yield buffer[0], bytes(buffer[_HEADER.size : size])
            del buffer[:size]
    if len(buffer) > _HEADER.size:
        yield buffer[0], bytes(buffer[_HEADER.size :])


def stamped_lines(entries: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield whole lines from log entries that begin with their time.

    The engine cuts a long line into entries of 16 KiB and puts the time before each; here a line has it
    once, at its beginning. A line longer than ``LINE_LIMIT_BYTES`` stays cut.
    """
    begun: dict[int, bytearray] = {}
    for stream, entry in entries:
        line = begun.pop(stream, None)
        if line is None:
            line = bytearray(entry)
        else:
            line += entry.partition(b" ")[2]
        if line.endswith(b"\n"):
            yield bytes(line)
        elif len(line) > LINE_LIMIT_BYTES:
            yield bytes(line) + b"\n"
        else:
            begun[stream] = line
    for line in begun.values():
        yield bytes(line)
