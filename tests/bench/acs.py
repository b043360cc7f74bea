"""Amazon ECS as far as a bench needs it: gives orders over ACS and notes when reports arrive.

Offers the same methods as ``ScriptedControl``, so that one measurement runs over either wire. Checks
nothing: ``tests/backend`` does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections import defaultdict
from typing import Any

from aiohttp import WSMsgType, web

Change = dict[str, Any]
_INSTANCE = "arn:aws:ecs:us-east-1:000000000000:container-instance/bench/"


class ScriptedAcs:
    """Speaks the ECS API, ACS and TCS to one agent at a time."""

    def __init__(self) -> None:
        self.port = 0
        self.connected_at = 0.0
        self.seen: dict[str, list[tuple[float, Change]]] = defaultdict(list)
        """Every report by task ARN, with the time it arrived."""
        self._seq = 0
        self._changed = asyncio.Condition()
        self._socket: web.WebSocketResponse | None = None
        self._runner: web.AppRunner | None = None
        self._arn = _INSTANCE + uuid.uuid4().hex

    async def start(self) -> None:
        """Listen on a free port of the loopback."""
        app = web.Application()
        app.router.add_post("/", self._call)
        app.router.add_get("/acs/ws", self._acs)
        app.router.add_get("/tcs/ws", self._tcs)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def order(self, *payloads: dict[str, Any]) -> float:
        """Order tasks to run; returns when the order was given."""
        return await self._send(
            [
                payload | {"containers": [{"essential": True} | c for c in payload["containers"]]}
                for payload in payloads
            ]
        )

    async def stop(self, *arns: str) -> None:
        """Order tasks to stop."""
        await self._send([{"arn": arn, "desiredStatus": "STOPPED"} for arn in arns])

    async def until(self, arn: str, status: str, *, limit_s: float = 120.0) -> float:
        """Return when a task was first reported in a status."""
        async with asyncio.timeout(limit_s), self._changed:
            while True:
                for at, change in self.seen[arn]:
                    if change.get("status") == status:
                        return at
                await self._changed.wait()

    async def until_polled(self, since: float, *, limit_s: float = 60.0) -> float:
        """Return when the agent first opened a session after a moment."""
        async with asyncio.timeout(limit_s), self._changed:
            while self.connected_at < since or self._socket is None:
                await self._changed.wait()
            return self.connected_at

    async def _send(self, tasks: list[dict[str, Any]]) -> float:
        assert self._socket is not None, "the agent is not connected"
        self._seq += 1
        message = {
            "clusterArn": "bench",
            "containerInstanceArn": self._arn,
            "messageId": uuid.uuid4().hex,
            "seqNum": self._seq,
            "generatedAt": int(time.time() * 1000),
            "tasks": tasks,
        }
        at = time.monotonic()
        await self._socket.send_str(json.dumps({"type": "PayloadMessage", "message": message}))
        return at

    async def _call(self, request: web.Request) -> web.Response:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        body = json.loads(await request.read())
        here = f"http://{request.host}"
        answer: dict[str, Any] = {"acknowledgment": "ok"}
        if operation == "RegisterContainerInstance":
            answer = {
                "containerInstance": {
                    "containerInstanceArn": self._arn,
                    "attributes": body.get("attributes", []),
                }
            }
        elif operation == "DiscoverPollEndpoint":
            answer = {"endpoint": f"{here}/acs/", "telemetryEndpoint": f"{here}/tcs/"}
        elif operation == "SubmitTaskStateChange":
            async with self._changed:
                self.seen[body["task"]].append((time.monotonic(), body))
                self._changed.notify_all()
        return web.json_response(answer, content_type="application/x-amz-json-1.1")

    async def _acs(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async with self._changed:
            self._socket, self.connected_at = socket, time.monotonic()
            self._changed.notify_all()
        beat = asyncio.create_task(_beat(socket))
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
        finally:
            beat.cancel()
            if self._socket is socket:
                self._socket = None
        return socket

    async def _tcs(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        beat = asyncio.create_task(_beat(socket))
        try:
            async for _ in socket:
                pass
        finally:
            beat.cancel()
        return socket


async def _beat(socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            await asyncio.sleep(20)
            beat = {"healthy": True, "messageId": uuid.uuid4().hex}
            await socket.send_str(json.dumps({"type": "HeartbeatMessage", "message": beat}))
