"""What the two websockets have in common: the upgrade, the frames, and every way to break them.

A channel's methods are called from the test's thread; what they do happens on the back end's loop.
"""

from __future__ import annotations

import asyncio
import json
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from tests.backend import strict_json
from tests.backend.journal import Connection, Frame
from tests.backend.signatures import SignatureRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.backend.api import Api
    from tests.backend.journal import Journal
    from tests.backend.signatures import Verifier

PATIENCE_S = 40.0
_ENDS = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


@dataclass
class Refusal:
    """How an upgrade is refused."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    left: int = 1
    """How many more upgrades it meets; -1 for all."""


class Channel(ABC):
    """One websocket of the back end. The newest connection is the one in use."""

    name = ""

    def __init__(self, api: Api, journal: Journal, verifier: Verifier) -> None:
        self.api = api
        self.journal = journal
        self.verifier = verifier
        self.run: Callable[[Coroutine[Any, Any, Any]], Any]
        """Runs something on the back end's loop; set by the back end."""
        self._refusals: list[Refusal] = []
        self._count = 0
        self._sockets: dict[int, tuple[web.WebSocketResponse, asyncio.Transport]] = {}

    # -- what a test does -------------------------------------------------------------------------

    def refuse(
        self,
        body: str | bytes | dict[str, Any],
        *,
        status: int = 400,
        times: int = 1,
        headers: dict[str, str] | None = None,
    ) -> Refusal:
        """Refuse the next upgrades with this body; the refusal's ``left`` may be changed later."""
        if isinstance(body, dict):
            body = json.dumps(body)
        raw = body.encode() if isinstance(body, str) else body
        refusal = Refusal(status, raw, headers or {}, times)
        self._refusals.append(refusal)
        return refusal

    @property
    def latest(self) -> Connection | None:
        """The newest connection, open or not."""
        made = self.journal.connections(self.name)
        return made[-1] if made else None

    @property
    def is_open(self) -> bool:
        """Whether the newest connection is open."""
        latest = self.latest
        return latest is not None and latest.ended_at is None

    def wait_open(self, *, after: int = 0, within_s: float = PATIENCE_S) -> Connection:
        """Return the open connection, once there is one with a number above ``after``."""

        def look() -> Connection | None:
            latest = self.latest
            if latest is None or latest.number <= after or latest.ended_at is not None:
                return None
            return latest if latest.number in self._sockets else None

        found = self.journal.wait(
            look, within_s=within_s, what=f"{self.name} connection beyond {after}"
        )
        assert found is not None
        return found

    def wait_closed(self, number: int, *, within_s: float = PATIENCE_S) -> Connection:
        """Return a connection once it has ended."""
        return self.journal.wait(
            lambda: next(
                (
                    c
                    for c in self.journal.connections(self.name)
                    if c.number == number and c.ended_at is not None
                ),
                None,
            ),
            within_s=within_s,
            what=f"{self.name} connection {number} ends",
        )  # type: ignore[return-value]

    def send(self, type_: str, message: Any) -> None:
        """Send one envelope."""
        self.send_text(json.dumps({"type": type_, "message": message}))

    def send_text(self, text: str) -> None:
        """Send one text frame."""
        self.run(self._socket()[0].send_str(text))

    def send_binary(self, content: bytes) -> None:
        """Send one binary frame."""
        self.run(self._socket()[0].send_bytes(content))

    def ping(self, content: bytes = b"?") -> None:
        """Send a websocket ping."""
        self.run(self._socket()[0].ping(content))

    def send_raw(self, content: bytes) -> None:
        """Put bytes onto the connection below the websocket."""

        async def write(transport: asyncio.Transport) -> None:
            transport.write(content)

        self.run(write(self._socket()[1]))

    def drip(self, content: bytes, *, step: int = 1, pause_s: float = 0.05) -> None:
        """Put bytes onto the connection slowly; returns when all are written."""

        async def write(transport: asyncio.Transport) -> None:
            for start in range(0, len(content), step):
                if transport.is_closing():
                    return
                transport.write(content[start : start + step])
                await asyncio.sleep(pause_s)

        self.run(write(self._socket()[1]))

    def close(self, code: int = WSCloseCode.OK, reason: str = "") -> None:
        """Close the connection with a code and wait for the agent's answer."""
        self.run(self._socket()[0].close(code=code, message=reason.encode()))

    def send_close(self, code: int, reason: str = "") -> None:
        """Send a close frame with any code, also one that is not allowed, then cut."""
        body = struct.pack("!H", code) + reason.encode()
        self.send_raw(bytes([0x88, len(body)]) + body)
        self.drop()

    def drop(self) -> None:
        """Cut the TCP connection without a close frame."""

        async def abort(transport: asyncio.Transport) -> None:
            transport.abort()

        self.run(abort(self._socket()[1]))

    def frames(self, *types: str) -> list[Frame]:
        """Return the agent's messages of these types."""
        return self.journal.frames(self.name, *types)

    def wait_frame(
        self,
        type_: str,
        *,
        within_s: float = PATIENCE_S,
        where: Callable[[Frame], bool] = lambda frame: True,
        count: int = 1,
    ) -> Frame:
        """Return the ``count``-th message of a type for which ``where`` holds."""

        def look() -> Frame | None:
            found = [f for f in self.frames(type_) if where(f)]
            return found[count - 1] if len(found) >= count else None

        frame = self.journal.wait(look, within_s=within_s, what=f"{self.name} {type_}")
        assert frame is not None
        return frame

    def _socket(self) -> tuple[web.WebSocketResponse, asyncio.Transport]:
        latest = self.wait_open()
        return self._sockets[latest.number]

    # -- serving ----------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one upgrade and the connection that follows."""
        query = dict(request.query)
        headers = dict(request.headers)
        refusal = self._refused(request)
        if refusal is not None:
            self.journal.add(
                Connection(
                    self.name, 0, query, headers, ended_at=monotonic(), status=refusal.status
                )
            )
            dated = {"Date": self.verifier.clock.date(), **refusal.headers}
            return web.Response(status=refusal.status, body=refusal.body, headers=dated)
        for problem in self.check_query(request, query):
            self.journal.complain(f"{self.name} upgrade", problem)
        socket = web.WebSocketResponse(
            autoping=False, autoclose=True, compress=False, timeout=1.0, max_msg_size=8 * 2**20
        )
        await socket.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._count += 1
        connection = Connection(self.name, self._count, query, headers)
        self._sockets[connection.number] = (socket, transport)
        self.journal.add(connection)
        try:
            await self.opened(connection)
            await self._receive(socket, connection, request)
        finally:
            connection.ended_at = monotonic()
            connection.close_code = socket.close_code
            del self._sockets[connection.number]
            self.journal.touch()
        return socket

    def _refused(self, request: web.Request) -> Refusal | None:
        """Return how this upgrade is refused, by the test or by its signature."""
        for planned in self._refusals:
            if planned.left:
                planned.left -= 1
                return planned
        url = f"http://{request.headers.get('Host', '')}{request.raw_path}"
        try:
            signed = self.verifier.check("GET", url, request.headers, b"")
        except SignatureRefused as error:
            if not self.verifier.clock.ahead_s:
                self.journal.complain(f"{self.name} upgrade", f"{error.code}: {error}")
            return Refusal(403, json.dumps({error.code: str(error)}).encode())
        token = ["x-amz-security-token"] if "X-Amz-Security-Token" in request.headers else []
        if list(signed) != ["host", "x-amz-date", *token]:
            self.journal.complain(f"{self.name} upgrade", f"signed headers {signed}")
        if "Sec-WebSocket-Extensions" in request.headers:
            self.journal.complain(f"{self.name} upgrade", "asks for an extension")
        return None

    async def _receive(
        self, socket: web.WebSocketResponse, connection: Connection, request: web.Request
    ) -> None:
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                await self._take(message.data, connection, request)
            elif message.type is WSMsgType.PONG:
                self.journal.add(Frame(self.name, connection.number, "(pong)", {}))
            elif message.type in _ENDS:
                return
            else:
                self.journal.complain(self.name, f"frame of type {message.type.name}")

    async def _take(self, text: str, connection: Connection, request: web.Request) -> None:
        try:
            envelope = strict_json.loads(self.unwrap(text, request))
            if set(envelope) != {"type", "message"} or not isinstance(envelope["message"], dict):
                raise strict_json.NotStrict(f"no envelope: {sorted(envelope)}")
        except (strict_json.NotStrict, TypeError) as error:
            self.journal.complain(self.name, f"frame {text[:300]!r}: {error}")
            return
        frame = Frame(self.name, connection.number, envelope["type"], envelope["message"])
        for problem in self._problems(frame, text):
            self.journal.complain(f"{self.name} {frame.type}", f"{problem}; {frame.message}"[:2000])
        self.journal.add(frame)
        await self.taken(frame)

    def _problems(self, frame: Frame, text: str) -> list[str]:
        try:
            return self.check_frame(frame, text)
        except Exception as error:  # noqa: BLE001 - it would end the connection, and nobody knew why
            return [f"cannot be checked: {error!r}"]

    async def reply(self, connection: int, type_: str, message: Any) -> None:
        """Send an envelope on a connection, unless it is gone."""
        if connection in self._sockets:
            try:
                await self._sockets[connection][0].send_json({"type": type_, "message": message})
            except ConnectionError:
                return  # its end is in the journal

    # -- what the two differ in -------------------------------------------------------------------

    def check_query(self, request: web.Request, query: dict[str, str]) -> list[str]:
        """Return what is wrong with the query of an upgrade."""
        keys = [part.partition("=")[0] for part in request.query_string.split("&")]
        found = [] if keys == sorted(keys) else [f"query not sorted: {keys}"]
        if len(keys) != len(set(keys)):
            found.append(f"query names a key twice: {keys}")
        del query
        return found

    def unwrap(self, text: str, request: web.Request) -> str:
        """Return the JSON of a frame."""
        del request
        return text

    @abstractmethod
    def check_frame(self, frame: Frame, text: str) -> list[str]:
        """Return what is wrong with a message of the agent."""

    async def opened(self, connection: Connection) -> None:  # noqa: B027 - not every channel does
        """Act on a new connection."""

    async def taken(self, frame: Frame) -> None:  # noqa: B027 - likewise
        """Act on a message of the agent."""


def text_frame(text: str | bytes) -> bytes:
    """Return the bytes of a whole text frame of a server."""
    body = text.encode() if isinstance(text, str) else text
    if len(body) < 126:
        return bytes([0x81, len(body)]) + body
    if len(body) < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, len(body)) + body
    return struct.pack("!BBQ", 0x81, 127, len(body)) + body
