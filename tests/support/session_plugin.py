"""A client with the wire protocol of session-manager-plugin, written from its description alone.

Shares no code with ``agent/``. As a command it takes the arguments that the AWS CLI gives the real plugin:
``python -m tests.support.session_plugin SESSION REGION StartSession PROFILE TARGET ENDPOINT``; standard input
is what is typed, and the terminal is as large as ``PLUGIN_TERMINAL`` (``ROWSxCOLUMNS``) says.

Like the real one, it loses what comes while it sets up its terminal: the first ``drops`` messages of output
after the handshake are neither kept nor acknowledged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import struct
import sys
import time
import uuid
from typing import Any, NamedTuple

import aiohttp

HEAD = struct.Struct(">I32sIQqQ16s32sI")
LIMIT_S = 60.0
_RESEND_S = 0.2


class Message(NamedTuple):
    """One message as it is on the wire."""

    kind: str
    sequence: int
    flags: int
    id: uuid.UUID
    payload_kind: int
    payload: bytes


def packed(kind: str, sequence: int, payload_kind: int, payload: bytes, flags: int = 0) -> bytes:
    """Return a message as bytes."""
    raw = uuid.uuid4().bytes
    head = HEAD.pack(
        HEAD.size,
        kind.encode().ljust(32, b" "),
        1,
        int(time.time() * 1000),
        sequence,
        flags,
        raw[8:] + raw[:8],
        hashlib.sha256(payload).digest(),
        payload_kind,
    )
    return head + struct.pack(">I", len(payload)) + payload


def unpacked(data: bytes) -> Message:
    """Return the message that bytes are; every rule of the protocol is checked."""
    assert HEAD.size == 116
    length, kind, version, created, sequence, flags, raw, digest, payload_kind = HEAD.unpack_from(
        data
    )
    assert (length, version) == (116, 1)
    assert created != 0
    payload = data[length + 4 :]
    (size,) = struct.unpack_from(">I", data, length)
    assert size == len(payload)
    if size:
        assert hashlib.sha256(payload).digest() == digest
    return Message(
        kind.decode().strip(" \0"),
        sequence,
        flags,
        uuid.UUID(bytes=raw[8:] + raw[:8]),
        payload_kind,
        payload,
    )


class PluginClient:
    """One session, from the token to ``channel_closed``."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        *,
        size: tuple[int, int] = (24, 80),
        drops: int = 0,
    ) -> None:
        self.socket = socket
        self.size = size
        self.drops = drops
        self.shown = bytearray()
        """Everything that the terminal showed."""
        self.closed: dict[str, Any] | None = None
        self.has_left = asyncio.Event()
        self.repeats = 0
        """Messages of control that came again."""
        self.acknowledges = True
        self._news = asyncio.Event()
        self._next = 0
        self._unacknowledged: dict[int, tuple[bytes, float]] = {}
        self._expected = 0
        self._early: dict[int, Message] = {}
        self._ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls, http: aiohttp.ClientSession, session: dict[str, str], **more: Any
    ) -> PluginClient:
        """Open the WebSocket and say the token, as the plugin does."""
        socket = await http.ws_connect(session["streamUrl"], max_msg_size=0)
        token = {
            "MessageSchemaVersion": "1.0",
            "RequestId": str(uuid.uuid4()),
            "TokenValue": session["tokenValue"],
            "ClientId": str(uuid.uuid4()),
            "ClientVersion": "1.2.0.0",
        }
        await socket.send_str(json.dumps(token))
        made = cls(socket, **more)
        made._tasks = [asyncio.create_task(made._read()), asyncio.create_task(made._resend())]
        return made

    async def __aenter__(self) -> PluginClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.socket.close()

    def vanish(self) -> None:
        """Go without a word."""
        transport = self.socket._writer.transport
        assert transport is not None
        transport.abort()

    async def type(self, text: str | bytes) -> None:
        """Type a text."""
        data = text.encode() if isinstance(text, str) else text
        await self._wait(self._ready)
        for start in range(0, len(data), 1024):
            await self._post(1, data[start : start + 1024])

    async def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        await self._post(3, json.dumps({"cols": columns, "rows": rows}).encode())

    async def until(self, text: bytes) -> bytes:
        """Return what is shown up to and with a text, and forget it."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while text not in self.shown:
                    assert not self.has_left.is_set(), f"the session is over: {self.shown[-500:]!r}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not shown: {self.shown[-500:]!r}") from None
        end = self.shown.index(text) + len(text)
        before = bytes(self.shown[:end])
        del self.shown[:end]
        return before

    async def end(self) -> str:
        """Return what ``channel_closed`` said; empty as the plugin has it for a plain end."""
        await self._wait(self.has_left)
        assert self.closed is not None, "the connection ended without channel_closed"
        return str(self.closed["Output"])

    async def _wait(self, event: asyncio.Event) -> None:
        async with asyncio.timeout(LIMIT_S):
            await event.wait()

    async def _post(self, payload_kind: int, payload: bytes) -> None:
        data = packed("input_stream_data", self._next, payload_kind, payload)
        self._unacknowledged[self._next] = (data, time.monotonic())
        self._next += 1
        await self.socket.send_bytes(data)

    async def _resend(self) -> None:
        while True:
            await asyncio.sleep(_RESEND_S)
            for sequence in sorted(self._unacknowledged)[:1]:
                data, at = self._unacknowledged[sequence]
                if time.monotonic() - at > _RESEND_S and not self.socket.closed:
                    self._unacknowledged[sequence] = (data, time.monotonic())
                    await self.socket.send_bytes(data)

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                assert message.type is aiohttp.WSMsgType.BINARY
                await self._take(unpacked(message.data))
        except ConnectionError:
            pass
        finally:
            self.has_left.set()
            self._news.set()

    async def _take(self, message: Message) -> None:
        if message.kind == "acknowledge":
            told = json.loads(message.payload)
            assert told["IsSequentialMessage"] is True
            assert told["AcknowledgedMessageType"] == "input_stream_data"
            uuid.UUID(told["AcknowledgedMessageId"])
            assert message.flags == 3
            self._unacknowledged.pop(told["AcknowledgedMessageSequenceNumber"], None)
        elif message.kind == "channel_closed":
            self.closed = json.loads(message.payload)
            assert self.closed["MessageType"] == "channel_closed"
            assert self.closed["SchemaVersion"] == 1
            await self.socket.close()
        elif message.kind == "output_stream_data" and self.acknowledges:
            await self._take_output(message)

    async def _take_output(self, message: Message) -> None:
        assert len(message.payload) <= 1024
        if self.drops and message.payload_kind == 1:
            self.drops -= 1
            return
        self.repeats += message.sequence < self._expected or message.sequence in self._early
        told = {
            "AcknowledgedMessageType": message.kind,
            "AcknowledgedMessageId": str(message.id),
            "AcknowledgedMessageSequenceNumber": message.sequence,
            "IsSequentialMessage": True,
        }
        await self.socket.send_bytes(packed("acknowledge", 0, 0, json.dumps(told).encode(), 3))
        if message.sequence < self._expected:
            return
        self._early[message.sequence] = message
        while (following := self._early.pop(self._expected, None)) is not None:
            self._expected += 1
            await self._show(following)

    async def _show(self, message: Message) -> None:
        if message.payload_kind == 5:
            asked = json.loads(message.payload)["RequestedClientActions"]
            assert [one["ActionType"] for one in asked] == ["SessionType"]
            answer = {
                "ClientVersion": "1.2.0.0",
                "ProcessedClientActions": [
                    {
                        "ActionType": "SessionType",
                        "ActionStatus": 1,
                        "ActionResult": None,
                        "Error": "",
                    }
                ],
                "Errors": None,
            }
            await self._post(6, json.dumps(answer).encode())
        elif message.payload_kind == 7:
            assert json.loads(message.payload)["HandshakeTimeToComplete"] > 0
            await self.resize(*self.size)
            self._ready.set()
        else:
            self.shown += message.payload
            self._news.set()


async def _main(session: dict[str, str]) -> int:
    rows, columns = map(int, os.environ.get("PLUGIN_TERMINAL", "24x80").split("x"))
    keys = {name[0].lower() + name[1:]: value for name, value in session.items()}
    async with (
        aiohttp.ClientSession() as http,
        await PluginClient.open(http, keys, size=(rows, columns)) as client,
    ):
        await client.type(await asyncio.to_thread(sys.stdin.buffer.read))
        output = await client.end()
        sys.stdout.buffer.write(client.shown)
        sys.stdout.buffer.flush()
        end = f"SessionId: {keys['sessionId']} : {output}" if output else "Exiting session."
        sys.stdout.write(f"\n{end}\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 1:  # how the AWS CLI looks whether there is a plugin
        sys.stdout.write("The Session Manager plugin was installed successfully.\n")
        sys.exit(0)
    given = os.environ.get(sys.argv[1], sys.argv[1])
    sys.exit(asyncio.run(_main(json.loads(given))))
