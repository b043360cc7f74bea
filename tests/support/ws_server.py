"""A websocket server on the loopback whose every connection is one function of the test."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import WSMsgType, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Play = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket

    async def say(self, kind: str, **message: Any) -> None:
        """Send one message in its envelope."""
        await self.raw(msgspec.json.encode({"type": kind, "message": message}))

    async def raw(self, text: bytes) -> None:
        """Send these bytes as a text frame, whatever they are."""
        await self.socket.send_frame(text, WSMsgType.TEXT)

    async def hear(self, limit_s: float = 5.0) -> tuple[str, Any]:
        """Return type and message of the next frame of the agent; ``("close", code)`` at the end."""
        async with asyncio.timeout(limit_s):
            got = await self.socket.receive()
        if got.type is not WSMsgType.TEXT:
            return "close", self.socket.close_code
        told = msgspec.json.decode(got.data)
        return told["type"], told["message"]

    async def silence(self, limit_s: float = 0.1) -> bool:
        """Tell whether nothing comes for this long."""
        try:
            await self.hear(limit_s)
        except TimeoutError:
            return True
        return False

    def cut(self) -> None:
        """End the connection without a word."""
        assert self.request.transport is not None
        self.request.transport.abort()


class WsServer:
    """Serves ``/ws``: counts the connections and gives each to ``play``."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[web.Request] = []
        self.times: list[float] = []
        self.plays: list[Play] = []
        """What happens on the first, second... connection; the last one stands for all later ones."""
        self.refusals: list[web.Response] = []
        """Answers to the next upgrades, instead of a websocket."""
        self.errors: list[BaseException] = []
        self._playing: dict[asyncio.Task[None], web.Request] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[WsServer]:
        """Serve until the block ends; what failed in a play fails the test."""
        app = web.Application()
        app.router.add_get("/ws", self._serve)
        app.on_shutdown.append(self._end_plays)
        runner = web.AppRunner(app, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/"
        try:
            yield self
        finally:
            await runner.cleanup()
        for error in self.errors:
            raise error

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        index = len(self.requests)
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        if self.refusals:
            return self.refusals.pop(0)
        socket = web.WebSocketResponse(timeout=0.2, max_msg_size=64 * 1024 * 1024)
        await socket.prepare(request)
        play = self.plays[min(index, len(self.plays) - 1)]
        playing = asyncio.ensure_future(play(Peer(request, socket)))
        self._playing[playing] = request
        try:
            await playing
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - told by running()
            self.errors.append(error)
        finally:
            del self._playing[playing]
        return socket

    async def _end_plays(self, _app: web.Application) -> None:
        """End the plays that go on.

        aiohttp would wait for them until its limit, and breaks on one that ends in that very moment:
        ``InvalidStateError`` in ``RequestHandler._handle_request``.
        """
        for playing, request in self._playing.items():
            playing.cancel()
            if request.transport is not None:
                request.transport.abort()
        if self._playing:
            await asyncio.wait(list(self._playing))
