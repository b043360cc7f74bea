"""By which address the current call of an API came: for handlers that name another one of this endpoint.

Set by ``front.service_api`` once the caller is admitted; each request has its own. Who calls is in
``authorization.caller``.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

_websocket_url: ContextVar[str] = ContextVar("websocket_url", default="ws://localhost")


def reached_by(request: web.Request) -> None:
    """Take note of the call that the current task answers."""
    _websocket_url.set(f"{'wss' if request.secure else 'ws'}://{request.host}")


def websocket_url() -> str:
    """Return by what the caller reaches this endpoint for a WebSocket, without a path."""
    return _websocket_url.get()
