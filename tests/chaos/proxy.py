"""What is between an agent and control: passes bytes on, or cuts, delays, stalls and truncates them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

FLOWS, CUT, STALLED, SLOW, SHORT = "flows", "cut", "stalled", "slow", "short"
_CHUNK = 65_536
_SLOW_CHUNK = 700
_SHORT_LEAST, _SHORT_MOST = 1, 4000


class Proxy:
    """A TCP proxy on the loopback; its ``mode`` holds for all connections, those that are open too.

    Belongs to the event loop of ``Proxies``; ``become`` is called from any thread.
    """

    def __init__(
        self, target_port: int, passed: Callable[[str], None], run: Callable[..., Any], seed: str
    ) -> None:
        self.port = 0
        self.mode = FLOWS
        self._target_port = target_port
        self._passed = passed
        self._run = run
        self._chance = random.Random(seed)
        self._delay_s = 0.0
        self._flowing = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; on the same port as before, if there was one."""
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def become(self, mode: str, delay_s: float = 0.0) -> None:
        """Have it do something else from now on; returns when it does.

        Args:
            mode: ``FLOWS``, ``CUT`` (nobody listens), ``STALLED`` (nothing passes), ``SLOW`` (a few
                bytes at a time) or ``SHORT`` (each connection ends after some bytes).
            delay_s: before each piece, if it is slow.
        """
        self._run(self._become(mode, delay_s))

    async def close(self) -> None:
        """Close all connections and listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._flowing.set()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _become(self, mode: str, delay_s: float) -> None:
        before, self.mode, self._delay_s = self.mode, mode, delay_s
        if mode == STALLED:
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode == CUT:
            await self.close()
        elif before == CUT:
            await self.open()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            self._writers.discard(writer)
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        pairs = (
            (reader, far_writer, "report sent to control"),
            (far_reader, writer, "order sent to agent"),
        )
        ends = [asyncio.create_task(self._copy(*pair)) for pair in pairs]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            for each in (writer, far_writer):
                self._writers.discard(each)
                each.close()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, boundary: str
    ) -> None:
        left = self._chance.randint(_SHORT_LEAST, _SHORT_MOST)
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                for piece in self._pieces(data):
                    if self.mode == SLOW:
                        await asyncio.sleep(self._delay_s)
                    await self._flowing.wait()
                    sent = piece[:left] if self.mode == SHORT else piece
                    sink.write(sent)
                    self._passed(boundary)
                    await sink.drain()
                    if self.mode == SHORT:
                        left -= len(sent)
                        if left <= 0:
                            return

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = _SLOW_CHUNK if self.mode == SLOW else _CHUNK
        for start in range(0, len(data), size):
            yield data[start : start + size]


class Proxies:
    """All proxies of a run, in a thread of their own. A context manager."""

    def __init__(self, passed: Callable[[str], None]) -> None:
        self._passed = passed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._made: list[Proxy] = []

    def __enter__(self) -> Proxies:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self._made:
            self._run(proxy.close())
        self._run(_settled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def add(self, target_port: int, seed: str) -> Proxy:
        """Return a proxy that listens."""

        async def make() -> Proxy:
            made = Proxy(target_port, self._passed, self._run, seed)
            await made.open()
            return made

        made: Proxy = self._run(make())
        self._made.append(made)
        return made

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


async def _settled() -> None:
    """Wait until no connection is served any more."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=10)
