"""A client that speaks the protocol of session-manager-plugin: joins it to the agent of its session.

::

    plugin ◄── handshake ──► here          then, both at once:   typed keys, sizes ──► agent ──► the command
           every message acknowledged                            output ◄── agent, 1,024 bytes a message

The command starts when the plugin is ready and has told the size of its terminal. Output waits while too much
of it is not acknowledged; input is not acknowledged, and so sent again, while the command does not read it.
At the end the plugin is told when it has everything else. Tests:
``tests/unit/controlplane/execute_command/test_sessions_on_control.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from aiohttp import WSMsgType
from msgspec import Struct

from agent.controlplane.execute_command import ending, frames
from agent.controlplane.execute_command.agent_link import AgentLink, conclusion
from agent.controlplane.execute_command.ending import (
    ENDINGS,
    ClientGone,
    Ended,
    Idle,
    control_stops,
    first,
)
from agent.controlplane.execute_command.frames import FrameInvalid
from agent.controlplane.execute_command.stream import Incoming, Outgoing
from agent.errors import BAD_JSON
from agent.model.exec import INPUT_WINDOW_BYTES, ExecExited, ExecFailed, InputTaken, TerminalSize

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from agent.controlplane.execute_command.frames import Frame
    from agent.controlplane.execute_command.sessions import Session
    from agent.controlplane.execute_command.transcript import Transcript
    from agent.errors import AgentError

READY_S: Final = 30.0
"""How long a plugin may take to answer the handshake."""
SIZE_S: Final = 1.0
"""How long the size of the terminal is waited for."""
TAIL_S: Final = 30.0
"""How long a plugin may take to acknowledge the last output."""
SEND_S: Final = 300.0
"""How long a plugin may not read: somebody has stopped the output of its terminal."""
TYPED_MOST_BYTES: Final = 1024 * 1024
"""Input that waits here; more is dropped, and the plugin sends it again, a message at a time."""
_UNKNOWN_SIZE: Final = TerminalSize(rows=24, columns=80)
_LARGEST: Final = 10_000
_HANDSHAKE: Final = {
    "AgentVersion": "3.2.0.0",
    "RequestedClientActions": [
        {
            "ActionType": "SessionType",
            "ActionParameters": {"SessionType": "InteractiveCommands", "Properties": {}},
        }
    ],
}
_log = structlog.get_logger(__name__)


class _Size(Struct, frozen=True):
    cols: int
    rows: int


_sizes = msgspec.json.Decoder(_Size)


class PluginChannel:
    """One plugin on one WebSocket."""

    def __init__(
        self, socket: web.WebSocketResponse, session: Session, transcript: Transcript
    ) -> None:
        self._socket = socket
        self._session = session
        self._transcript = transcript
        self._outgoing, self._incoming = Outgoing(), Incoming()
        self._acknowledged = asyncio.Event()
        self._in_flight = asyncio.Event()
        self._publishes = asyncio.Event()
        self._publishes.set()
        self._ready = asyncio.Event()
        self._sized = asyncio.Event()
        self._size = _UNKNOWN_SIZE
        self._resized = asyncio.Event()
        self._typed: deque[bytes] = deque()
        self._typed_bytes = 0
        self._has_typed = asyncio.Event()
        self._unread_bytes = 0
        """Input that the agent has and the command has not."""
        self._idle = Idle(ending.IDLE_S)
        self._began_ns = time.perf_counter_ns()

    async def run(self, agent: Callable[[], Awaitable[AgentLink]]) -> str:
        """Carry the session to its end; return why it ended, and tell the plugin unless it has left."""
        cause: AgentError = Ended()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read())
                group.create_task(self._send_again())
                group.create_task(self._idle.watch())
                group.create_task(control_stops(self._session))
                link = await self._begin(agent)
                group.create_task(self._pass_input(link))
                group.create_task(self._pass_sizes(link))
                await self._pass_output(link)
        except* ENDINGS as errors:
            cause = first(errors)
        if not isinstance(cause, ClientGone):
            await self._say_closed(str(cause))
        return str(cause)

    async def _begin(self, agent: Callable[[], Awaitable[AgentLink]]) -> AgentLink:
        """Shake hands while the agent connects; return it with the command started."""
        await self._post(frames.HANDSHAKE_REQUEST, msgspec.json.encode(_HANDSHAKE))
        link = await agent()
        try:
            async with asyncio.timeout(READY_S):
                await self._ready.wait()
        except TimeoutError:
            raise ClientGone("the client did not answer the handshake") from None
        try:
            async with asyncio.timeout(SIZE_S):
                await self._sized.wait()
        except TimeoutError:
            pass  # a plugin without a terminal may tell none
        await link.start(self._session.target, self._size)
        self._resized.set()  # an engine before API 1.42 starts a command without a size
        return link

    # From the plugin.

    async def _read(self) -> None:
        """Take messages until the plugin leaves; raises ``ClientGone``."""
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                raise ClientGone("the client left")
            try:
                await self._take(frames.decode(message.data))
            except FrameInvalid as error:
                raise ClientGone(f"the client sent what is no message: {error}") from None

    async def _take(self, frame: Frame) -> None:
        if frame.kind == frames.ACKNOWLEDGE:
            self._outgoing.acknowledge(frames.acknowledged(frame), self._now())
            if self._outgoing.is_empty:
                self._in_flight.clear()
            self._acknowledged.set()
        elif frame.kind == frames.PAUSE:
            self._publishes.clear()
        elif frame.kind == frames.RESUME:
            self._publishes.set()
        elif frame.kind == frames.INPUT:
            if self._typed_bytes >= TYPED_MOST_BYTES and self._incoming.is_new(frame):
                return  # not acknowledged: it comes again when the command has read more
            is_taken, ready = self._incoming.take(frame)
            if is_taken:
                await self._send(frames.encode(frames.acknowledgement(frame)))
            for one in ready:
                await self._act_on(one)

    async def _act_on(self, frame: Frame) -> None:
        match frame.payload_kind:
            case frames.HANDSHAKE_RESPONSE:
                took_ns = time.perf_counter_ns() - self._began_ns
                told = {"HandshakeTimeToComplete": took_ns, "CustomerMessage": ""}
                await self._post(frames.HANDSHAKE_COMPLETE, msgspec.json.encode(told))
                self._ready.set()
            case frames.DATA:
                self._ready.set()  # an old plugin begins without a handshake
                if frame.payload:  # keys of no bytes would take memory that nothing counts
                    self._idle.passed()
                    self._typed.append(frame.payload)
                    self._typed_bytes += len(frame.payload)
                    self._has_typed.set()
            case frames.SIZE:
                self._ready.set()
                self._take_size(frame.payload)
            case frames.FLAG if frame.payload == frames.TERMINATE:
                raise ClientGone("the client ended the session")

    def _take_size(self, payload: bytes) -> None:
        try:
            told = _sizes.decode(payload)
        except BAD_JSON as error:
            raise FrameInvalid(f"the size of a terminal cannot be read: {error}") from None
        if not (0 < told.rows <= _LARGEST and 0 < told.cols <= _LARGEST):
            return  # a terminal that does not know its size
        self._size = TerminalSize(rows=told.rows, columns=told.cols)
        self._sized.set()
        self._resized.set()

    # To the agent.

    async def _pass_input(self, link: AgentLink) -> None:
        while True:
            while not self._typed or self._unread_bytes >= INPUT_WINDOW_BYTES:
                self._has_typed.clear()
                await self._has_typed.wait()
            data = self._typed.popleft()
            self._typed_bytes -= len(data)
            self._unread_bytes += len(data)
            await link.write(data)

    async def _pass_sizes(self, link: AgentLink) -> None:
        while True:
            await self._resized.wait()
            self._resized.clear()
            await link.resize(self._size)

    # To the plugin.

    async def _pass_output(self, link: AgentLink) -> None:
        """Pass output on until the command ends; raises ``Ended`` when the plugin has all of it."""
        while True:
            told: Any = await link.read()
            if isinstance(told, InputTaken):
                self._unread_bytes -= told.size_bytes
                self._has_typed.set()
            elif isinstance(told, ExecExited | ExecFailed):
                await self._transcript.finish()
                await self._drained()
                raise Ended(conclusion(told))
            else:
                self._idle.passed()
                data = told[1]
                await self._transcript.add(data)
                for start in range(0, len(data), frames.PAYLOAD_BYTES):
                    await self._has_room()
                    await self._post(frames.DATA, data[start : start + frames.PAYLOAD_BYTES])

    async def _has_room(self) -> None:
        await self._publishes.wait()
        while self._outgoing.is_full:
            self._acknowledged.clear()
            await self._acknowledged.wait()

    async def _drained(self) -> None:
        """Return when the plugin has everything, or does not take it any more."""
        try:
            async with asyncio.timeout(TAIL_S):
                while not self._outgoing.is_empty:
                    self._acknowledged.clear()
                    await self._acknowledged.wait()
        except TimeoutError:
            _log.warning("a client did not take its last output", session=self._session.id)

    async def _post(self, payload_kind: int, payload: bytes) -> None:
        """Send a message that is sent again until it is acknowledged."""
        data = self._outgoing.send(payload_kind, payload, self._now())
        self._in_flight.set()
        await self._send(data)

    async def _send_again(self) -> None:
        while True:
            await self._in_flight.wait()
            data, wait_s = self._outgoing.due(self._now())
            if data is None:
                await asyncio.sleep(wait_s)
            else:
                await self._send(data)

    async def _send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await self._socket.send_bytes(data)
        except (TimeoutError, ConnectionError, RuntimeError):
            raise ClientGone("the client left") from None

    async def _say_closed(self, output: str) -> None:
        try:
            await self._send(frames.encode(frames.closed(self._session.id, output)))
        except ClientGone:
            _log.debug("a client left before it was told", session=self._session.id)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
