"""The WebSocket by which an agent connects for a session of ExecuteCommand: control is its client.

Tests: ``tests/unit/controlplane/execute_command/test_sessions_on_control.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from agent import keepalive
from agent.controlplane.agents.longpoll.errors import CommandGone, InvalidRequest
from agent.model.exec import MESSAGE_LIMIT_BYTES

if TYPE_CHECKING:
    from agent.controlplane.execute_command.sessions import CommandSessions
    from agent.controlplane.records import InstanceRecord

CLOSE_S: Final = 0.5


async def join(
    sessions: CommandSessions, instance: InstanceRecord, request: web.Request
) -> web.WebSocketResponse:
    """Join an agent to the session that it was told of; returns when the session is over.

    Raises:
        CommandGone: there is no such session for this instance, or its client has left.
        InvalidRequest: the call is no WebSocket.
    """
    session = sessions.expected(request.match_info["session"], instance.id)
    if session is None:
        raise CommandGone("no such session waits for this instance")
    # A message of an agent is as long as what it read from the engine at once.
    socket = web.WebSocketResponse(
        timeout=CLOSE_S, max_msg_size=MESSAGE_LIMIT_BYTES, compress=False
    )
    if not socket.can_prepare(request):
        raise InvalidRequest("agents connect for sessions by a WebSocket")
    await socket.prepare(request)
    transport = request.transport
    try:
        if transport is not None:
            keepalive.watch(transport.get_extra_info("socket"))
        if session.joined.done():
            return socket  # another connection of the same agent came first
        session.joined.set_result(socket)
        await session.over.wait()
        await socket.close()
    except BaseException:
        if transport is not None:  # its token was taken away: nothing more is read from it
            transport.abort()
        raise
    return socket
