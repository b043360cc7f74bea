"""A control endpoint that does nothing but give orders and note when reports arrive."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import defaultdict
from typing import Any

from aiohttp import web

Change = dict[str, Any]


class ScriptedControl:
    """Speaks the agents' long poll; one agent at a time."""

    def __init__(self) -> None:
        self.port = 0
        self.registered_at = 0.0
        self.polled_at = 0.0
        self.seen: dict[str, list[tuple[float, Change]]] = defaultdict(list)
        """Every report by task ARN, with the time it arrived."""
        self._revision = 1
        self._generation = 0
        self._tasks: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._id = uuid.uuid4().hex

    async def start(self) -> None:
        """Listen on a free port of the loopback."""
        app = web.Application()
        app.router.add_post("/v1/instances", self._register)
        app.router.add_get("/v1/instances/{id}/assignments", self._assignments)
        app.router.add_post("/v1/instances/{id}/changes", self._changes)
        app.router.add_post("/v1/instances/{id}/metrics", self._metrics)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def order(self, *payloads: dict[str, Any]) -> float:
        """Order tasks to run; returns when the order was given."""
        async with self._changed:
            self._revision += 1
            for payload in payloads:
                self._tasks[payload["arn"]] = {
                    "revision": self._revision,
                    "taskArn": payload["arn"],
                    "desiredStatus": "RUNNING",
                    "payload": payload,
                }
            at = time.monotonic()
            self._changed.notify_all()
        return at

    async def stop(self, *arns: str) -> None:
        """Order tasks to stop."""
        async with self._changed:
            self._revision += 1
            for arn in arns:
                self._tasks[arn] |= {"revision": self._revision, "desiredStatus": "STOPPED"}
            self._changed.notify_all()

    async def until(self, arn: str, status: str, *, limit_s: float = 120.0) -> float:
        """Return when a task was first reported in a status."""
        async with asyncio.timeout(limit_s), self._changed:
            while True:
                for at, change in self.seen[arn]:
                    if change["status"] == status:
                        return at
                await self._changed.wait()

    async def until_polled(self, since: float, *, limit_s: float = 60.0) -> float:
        """Return when the agent first asked for orders after a moment: its session is up."""
        async with asyncio.timeout(limit_s), self._changed:
            while self.polled_at < since:
                await self._changed.wait()
            return self.polled_at

    async def _register(self, request: web.Request) -> web.Response:
        await request.read()
        self._generation += 1
        return web.json_response(
            {
                "instanceArn": f"arn:aws:ecs:us-east-1:000000000000:container-instance/bench/{self._id}",
                "generation": self._generation,
                "leaseS": 60,
                "controlId": self._id,
            }
        )

    async def _assignments(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after", "0"))
        wait_s = float(request.query.get("wait", "30"))
        async with self._changed:
            self.polled_at = time.monotonic()
            self._changed.notify_all()
            try:
                async with asyncio.timeout(wait_s):
                    while after and self._revision <= after:
                        await self._changed.wait()
            except TimeoutError:
                return web.Response(status=204)
            tasks = [t for t in self._tasks.values() if t["revision"] > after]
            body = {"revision": self._revision, "full": after == 0, "tasks": tasks}
        return web.json_response(body)

    async def _changes(self, request: web.Request) -> web.Response:
        changes = json.loads(await request.read())["changes"]
        at = time.monotonic()
        async with self._changed:
            for change in changes:
                self.seen[change["taskArn"]].append((at, change))
                if change["status"] == "STOPPED":
                    self._tasks.pop(change["taskArn"], None)
            self._changed.notify_all()
        return web.json_response({"results": [{"id": c["id"], "status": "ok"} for c in changes]})

    async def _metrics(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)
