"""Connects to control for sessions with commands in containers that control has told of.

Each session has a WebSocket of its own, opened from here, because this host may be behind NAT. Loaded at the
first order.

Tests: ``tests/unit/upstream/longpoll/test_commands.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import aiohttp
import structlog

from agent.errors import ControlFailure, ControlUnavailable
from agent.model.exec import MESSAGE_LIMIT_BYTES
from agent.upstream import transport
from agent.upstream.longpoll import answers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from yarl import URL

    from agent.model.wire import CommandOrder
    from agent.upstream.longpoll.exchange import Identity
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.protocol import CommandHost

CONNECT_S: Final = 15.0
CLOSE_S: Final = 2.0
SESSIONS_MOST: Final = 64

_log = structlog.get_logger()


class Commands:
    """The sessions of one client."""

    def __init__(self, client: HttpClient, host: CommandHost, group: asyncio.TaskGroup) -> None:
        """Take what connects, what runs commands, and the group in which sessions run."""
        self._client = client
        self._host = host
        self._group = group
        self._sessions: set[str] = set()

    def take(self, identity: Identity, orders: Iterable[CommandOrder]) -> None:
        """Begin the sessions of orders that are new; returns at once."""
        for order in orders:
            if order.session_id in self._sessions or len(self._sessions) >= SESSIONS_MOST:
                continue
            self._sessions.add(order.session_id)
            self._group.create_task(self._carry(identity, order), name="command")

    async def _carry(self, identity: Identity, order: CommandOrder) -> None:
        try:
            await self._connected(identity, order)
        finally:
            self._sessions.discard(order.session_id)

    async def _connected(self, identity: Identity, order: CommandOrder) -> None:
        try:
            socket = await self._client.command(identity, order.session_id)
        except ControlFailure as error:
            # Whoever waits for it is told by control.
            _log.warning("no connection for a command", session=order.session_id, error=str(error))
            return
        try:
            await self._host.carry(socket, order.task_arn)
        except Exception as error:  # noqa: BLE001 - no session may end the agent
            _log.error("a command failed", session=order.session_id, error=repr(error))
        finally:
            with contextlib.suppress(TimeoutError):  # cancelled, it ends the connection as it is
                async with asyncio.timeout(2 * CLOSE_S):
                    await socket.close()


async def connect(
    session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], *, server_name: str | None
) -> aiohttp.ClientWebSocketResponse:
    """Return a WebSocket to control for a session.

    Args:
        session: with the certificate of this host, if it has one.
        url: of the session.
        headers: that show which host calls.
        server_name: which control's certificate must have; None for that of the URL.

    Raises:
        ControlFailure: control refuses it, or cannot be reached.
    """
    call = f"GET {url.path}"
    limits = aiohttp.ClientWSTimeout(ws_close=CLOSE_S)
    try:
        async with asyncio.timeout(CONNECT_S):
            return await session.ws_connect(
                url,
                headers=headers,
                server_hostname=server_name,
                compress=0,
                max_msg_size=MESSAGE_LIMIT_BYTES,
                timeout=limits,
            )
    except aiohttp.WSServerHandshakeError as error:
        raise answers.failure(error.status, {}, b"", call) from None
    except TimeoutError:
        raise ControlUnavailable(f"{call}: no answer within {CONNECT_S:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ControlUnavailable(f"{call}: {transport.worded(error)}") from None
