"""A small HTTP server of its own thread, so that tests stay plain code that waits."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Coroutine

_LIMIT_S = 60.0


class Hosted(ABC):
    """Serves ``handle`` on the loopback, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the server's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(_LIMIT_S)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._serve())
        return self

    def __exit__(self, *error: object) -> None:
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT_S)
        self._loop.close()

    def go_dark(self) -> None:
        """Stop listening and cut every connection."""
        self.run(self._end())

    def come_back(self) -> None:
        """Listen again where it did before."""
        self.run(self._serve())

    async def _serve(self) -> None:
        app = web.Application(client_max_size=8 * 2**20)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def _end(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
