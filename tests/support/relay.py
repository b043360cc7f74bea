"""A relay in front of a Unix socket, to simulate an engine that dies or hangs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


class Relay:
    """Copies bytes in both directions between clients of ``path`` and the socket ``target``.

    Use it as an async context manager.
    """

    def __init__(self, target: str, path: Path) -> None:
        self.path = path
        self.accepted = 0
        """Number of connections so far."""
        self._target = target
        self._refusing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._flowing.set()
        await self.refuse()
        await asyncio.gather(*self._tasks)

    async def refuse(self) -> None:
        """Close all connections and refuse new ones."""
        self._refusing = True
        for writer in list(self._open):
            writer.close()
        await asyncio.sleep(0.05)

    def accept(self) -> None:
        """Accept connections again."""
        self._refusing = False

    def hang(self) -> None:
        """Accept connections, but pass nothing on."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass data on again."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._refusing:
            writer.close()
            return
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_unix_connection(self._target)
        self._open |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, far_writer))
                group.create_task(self._copy(far_reader, writer))
        finally:
            self._open -= {writer, far_writer}
            for end in (writer, far_writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        sink.close()
