"""A stand-in for control's side of the logs wire, in front of a real control endpoint.

Calls of ``/v1/logs`` are taken here, by the rules of ``model.logs``; everything else goes on to control.
It can be made to be away, to refuse groups, and to answer late.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from aiohttp import web

from agent.model.logs import LogBatch, Logs, LogsAnswer, LogStream, RefusedBatch

if TYPE_CHECKING:
    from types import TracebackType

_HOP = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-encoding"})


class LogReceiver:
    """Use as a context manager; ``url`` is where agents are to go."""

    def __init__(self, control: str) -> None:
        self._control = control
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="log receiver")
        self.url = ""
        self.batches: list[LogBatch] = []
        """Every batch that was taken, in order, each once."""
        self.sent = Counter[str]()
        """How often each batch came."""
        self.groups: set[str] | None = None
        """The groups that exist; None for any."""
        self.is_away = False
        self.streams: list[LogStream] = []

    def lines(self, stream: str = "") -> list[str]:
        """Return all messages in the order in which they came, of streams that begin so."""
        return [
            message
            for batch in self.batches
            if batch.stream.startswith(stream)
            for _, message in batch.events
        ]

    def __enter__(self) -> LogReceiver:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/logs", self._take)
        app.router.add_post("/v1/logs/streams", self._stream)
        app.router.add_route("*", "/{rest:.*}", self._pass_on)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _close(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self._cut_if_away(request)
        # The server has inflated what came; the session inflates nothing.
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        async with self._session.request(
            request.method, self._control + request.path_qs, headers=headers,
            data=await request.read(),
        ) as answer:  # fmt: skip
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            if "Content-Encoding" in answer.headers:
                kept["Content-Encoding"] = answer.headers["Content-Encoding"]
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async def _take(self, request: web.Request) -> web.Response:
        self._cut_if_away(request)
        body = await request.read()  # inflated by the server
        logs = msgspec.json.decode(body, type=Logs)
        accepted, refused = [], []
        for batch in logs.batches:
            self.sent[batch.id] += 1
            if not self._exists(batch.group, create=batch.create_group):
                refused.append(RefusedBatch(id=batch.id, type="ResourceNotFoundException"))
                continue
            accepted.append(batch.id)
            if self.sent[batch.id] == 1:
                self.batches.append(batch)
        return web.Response(
            body=msgspec.json.encode(LogsAnswer(accepted=accepted, refused=refused)),
            content_type="application/json",
        )

    async def _stream(self, request: web.Request) -> web.Response:
        self._cut_if_away(request)
        stream = msgspec.json.decode(await request.read(), type=LogStream)
        self.streams.append(stream)
        if self._exists(stream.group, create=stream.create_group):
            return web.json_response({})
        error = {"type": "ResourceNotFoundException", "message": "no such group"}
        return web.json_response(error, status=404)

    def _exists(self, group: str, *, create: bool) -> bool:
        if self.groups is not None and create:
            self.groups.add(group)
        return self.groups is None or group in self.groups

    def _cut_if_away(self, request: web.Request) -> None:
        if self.is_away and request.transport is not None:
            request.transport.abort()
            raise web.HTTPServiceUnavailable
