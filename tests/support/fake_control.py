"""A control endpoint for tests: small, correct, and with faults on demand.

It speaks the whole wire of ``agent.model.wire`` on the loopback and stores everything that it
receives. Faults are queued per call (``poll``, ``changes``, ``register``, ``usage``, ``secrets``,
``leave``); each one affects one request, before (or, with ``lose_answer``, after) the request is
served.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from agent.model.changes import TaskChange
from agent.model.logs import LogBatch, Logs, LogsAnswer, LogStream, RefusedBatch
from agent.model.protection import ProtectedTask, ProtectionCall, ProtectionOutcome
from agent.model.usage import Usage
from agent.model.wire import (
    GENERATION_HEADER,
    Assignment,
    Assignments,
    ChangeAnswer,
    Changes,
    ChangesAnswer,
    ErrorBody,
    Held,
    Register,
    Registered,
    TaskCredentials,
)

if TYPE_CHECKING:
    from agent.model.payload import Credentials

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
encode = msgspec.json.encode


class FakeControl:
    """One control endpoint; ``stop`` and ``start`` keep its memory, as a restarted server would."""

    def __init__(self) -> None:
        self.control_id = "control-1"
        self.lease_s = 60.0
        self.port = 0
        self.revision = 1
        self.tasks: dict[str, tuple[int, Assignment]] = {}
        self.instance_status = "ACTIVE"
        self.generations: dict[str, int] = {}
        self.tokens: dict[str, str] = {}
        self.registers: list[Register] = []
        self.polls: list[int] = []
        """The ``after`` of every poll."""
        self.serials: list[int] = []
        """The serial of credentials of every poll."""
        self.issued: list[TaskCredentials] = []
        """What tasks were issued; the serial is their number."""
        self.sent: list[TaskChange] = []
        """Every report received, including repeats."""
        self.seen: dict[str, TaskChange] = {}
        """Every report received once, in order of its first arrival."""
        self.sent_at: dict[str, float] = {}
        self.batches: list[int] = []
        self.encodings: list[str] = []
        self.usage: list[Usage] = []
        self.logs: list[LogBatch] = []
        """Every batch of log events received, repeats included."""
        self.streams: list[LogStream] = []
        self.refused_groups: set[str] = set()
        self.reject: Callable[[TaskChange], bool] = lambda change: False
        self.went_back = False
        """Whether to ask agents for what they hold."""
        self.secrets: dict[str, str] = {}
        """Values that it stores, by name."""
        self.secrets_asked: list[Any] = []
        self.protection_asked: list[ProtectionCall] = []
        self.calls: list[str] = []
        """Every call that was served, by name, and ``told`` for the last part of what is held."""
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.in_flight = 0
        self.most_in_flight = 0
        self._ids = itertools.count(1)
        self._news = asyncio.Event()
        self._runner: web.AppRunner | None = None

    # --- life -----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/instances", self._served("register", self._register)),
                web.get("/v1/instances/{id}/assignments", self._served("poll", self._poll)),
                web.post("/v1/instances/{id}/changes", self._served("changes", self._changes)),
                web.post("/v1/instances/{id}/held", self._served("held", self._held)),
                web.post("/v1/instances/{id}/usage", self._served("usage", self._usage)),
                web.delete("/v1/instances/{id}", self._served("leave", self._leave)),
                web.post(
                    "/v1/instances/{id}/protection", self._served("protection", self._protect)
                ),
                web.post("/v1/logs", self._served("logs", self._logs)),
                web.post("/v1/logs/streams", self._served("streams", self._stream)),
                web.post("/v1/secrets", self._served("secrets", self._secrets)),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.01, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FakeControl]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    # --- what the operator does -----------------------------------------------------------------

    def want(self, arn: str, desired: str = "RUNNING", payload: bytes = b"{}") -> None:
        self.revision += 1
        assignment = Assignment(task_arn=arn, desired_status=desired, payload=msgspec.Raw(payload))
        self.tasks[arn] = (self.revision, assignment)
        self._wake()

    def issue(self, arn: str, role_type: str, credentials: Credentials) -> None:
        self.issued.append(
            TaskCredentials(task_arn=arn, role_type=role_type, credentials=credentials)
        )
        self._wake()

    def drain(self) -> None:
        self.revision += 1
        self.instance_status = "DRAINING"
        self._wake()

    def deregister_all(self) -> None:
        self.generations.clear()
        self.tokens.clear()
        self._wake()

    def another_agent_registers(self) -> None:
        for arn in self.generations:
            self.generations[arn] += 1
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # --- the calls ------------------------------------------------------------------------------

    def _served(
        self, name: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            self.calls.append(name)
            fault = self.faults[name].popleft() if self.faults[name] else None
            if fault is not None:
                if getattr(fault, "after_serving", False):
                    await handler(request)
                answer = await fault(request)
                if answer is not None:
                    return answer
            return await handler(request)

        return serve

    def _refusal(self, request: web.Request) -> web.Response | None:
        arn = f"arn:instance/{request.match_info['id']}"
        generation = self.generations.get(arn)
        if generation is None:
            return error(404, "InstanceUnknown", "register first")
        if request.headers.get(GENERATION_HEADER) != str(generation):
            return error(409, "StaleGeneration", "a newer agent is here")
        return None

    async def _register(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read(), type=Register)
        self.registers.append(body)
        if body.instance_arn and body.instance_arn not in self.generations:
            return error(404, "InstanceUnknown", "no such instance")
        arn = body.instance_arn or self.tokens.get(body.client_token)
        if not arn:
            arn = f"arn:instance/i{next(self._ids)}"
        self.tokens[body.client_token] = arn
        self.generations[arn] = self.generations.get(arn, 0) + 1
        self._wake()
        return json(
            Registered(
                instance_arn=arn,
                generation=self.generations[arn],
                lease_s=self.lease_s,
                control_id=self.control_id,
                went_back=self.went_back,
            )
        )

    async def _poll(self, request: web.Request) -> web.Response:
        after = int(request.query["after"])
        serial = int(request.query["credentials"])
        self.polls.append(after)
        self.serials.append(serial)
        ends = time.monotonic() + float(request.query["wait"])
        while True:
            if refusal := self._refusal(request):
                return refusal
            if after == 0 or self.revision > after or len(self.issued) > serial:
                break
            news = self._news
            try:
                async with asyncio.timeout(ends - time.monotonic()):
                    await news.wait()
            except TimeoutError:
                return web.Response(status=204)
        return self.answer(after, serial)

    def answer(self, after: int, serial: int = 0) -> web.Response:
        tasks = [one for revision, one in self.tasks.values() if revision > after]
        return json(
            Assignments(
                revision=self.revision,
                full=after == 0,
                instance_status=self.instance_status,
                tasks=tasks,
                credentials=self.issued[serial:],
                credentials_serial=len(self.issued),
            )
        )

    async def _changes(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            batch = msgspec.json.decode(await request.read(), type=Changes).changes
        finally:
            self.in_flight -= 1
        self.encodings.append(request.headers.get("Content-Encoding", ""))
        self.batches.append(len(batch))
        now = time.perf_counter()
        results = []
        for change in batch:
            self.sent.append(change)
            self.seen.setdefault(change.id, change)
            self.sent_at.setdefault(change.id, now)
            status = "rejected" if self.reject(change) else "ok"
            results.append(ChangeAnswer(id=change.id, status=status, message="because"))
        return json(ChangesAnswer(results=results))

    async def _held(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        held = msgspec.json.decode(await request.read(), type=Held)
        if held.last:
            self.went_back = False
            self.calls.append("told")
        results = [ChangeAnswer(id=task.change.id, status="ok") for task in held.tasks]
        return json(ChangesAnswer(results=results))

    async def _usage(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        self.usage.append(msgspec.json.decode(await request.read(), type=Usage))
        return web.Response(status=204)

    async def _logs(self, request: web.Request) -> web.Response:
        self.encodings.append(request.headers.get("Content-Encoding", ""))
        sent = msgspec.json.decode(await request.read(), type=Logs)
        assert sent.instance in self.generations
        self.batches.append(len(sent.batches))
        self.logs += sent.batches
        refused = [batch for batch in sent.batches if batch.group in self.refused_groups]
        return json(
            LogsAnswer(
                accepted=[batch.id for batch in sent.batches if batch not in refused],
                refused=[
                    RefusedBatch(id=batch.id, type="ResourceNotFoundException") for batch in refused
                ],
            )
        )

    async def _stream(self, request: web.Request) -> web.Response:
        stream = msgspec.json.decode(await request.read(), type=LogStream)
        self.streams.append(stream)
        if stream.group in self.refused_groups and not stream.create_group:
            body = {"type": "ResourceNotFoundException", "message": "no such group"}
            return web.json_response(body, status=404)
        return web.json_response({})

    async def _secrets(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read())
        self.secrets_asked.append(asked)
        if asked["instance"] not in self.generations:
            return error(404, "InstanceUnknown", "register first")
        missing = [name for name in asked["names"] if name not in self.secrets]
        if missing:
            return json({"error": "no such secrets", "missing": missing}, 404)
        return json({"values": {name: self.secrets[name] for name in asked["names"]}})

    async def _protect(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        asked = msgspec.json.decode(await request.read(), type=ProtectionCall)
        self.protection_asked.append(asked)
        if asked.change is not None and asked.change.expires_in_minutes == 0:
            return error(400, "InvalidParameterException", "too short")
        protected = asked.change is not None and asked.change.protection_enabled
        task = ProtectedTask(task_arn=asked.task_arn, protection_enabled=protected)
        return json(ProtectionOutcome(protected_tasks=[task]))

    async def _leave(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        del self.generations[f"arn:instance/{request.match_info['id']}"]
        return web.Response(status=204)


def json(value: object, status: int = 200) -> web.Response:
    response = web.Response(body=encode(value), status=status, content_type="application/json")
    if len(response.body or b"") > 1024:  # type: ignore[arg-type]
        response.enable_compression(web.ContentCoding.gzip)
    return response


def error(status: int, code: str, message: str = "", **headers: str) -> web.Response:
    response = json(ErrorBody(code=code, message=message), status)
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


# --- faults ---------------------------------------------------------------------------------------


def drop() -> Fault:
    """Close the connection without an answer."""

    async def fault(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return fault


def lose_answer() -> Fault:
    """Serve the request, then close the connection without an answer."""
    fault = drop()
    fault.after_serving = True  # type: ignore[attr-defined]
    return fault


def answers(response: Callable[[], web.Response]) -> Fault:
    """Answer this instead."""

    async def fault(request: web.Request) -> web.StreamResponse:
        return response()

    return fault


def refuses(status: int, code: str = "InternalError", **headers: str) -> Fault:
    """Answer with an error."""
    return answers(lambda: error(status, code, "told to", **headers))


def says(body: bytes, status: int = 200, **headers: str) -> Fault:
    """Answer with these bytes."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return answers(lambda: web.Response(body=body, status=status, headers=given))


def drips(body: bytes, every_s: float) -> Fault:
    """Send an answer one byte at a time."""

    async def fault(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for byte in body:
                await response.write(bytes([byte]))
                await asyncio.sleep(every_s)
        return response

    return fault


def breaks_off(body: bytes, promised: int) -> Fault:
    """Announce a long answer, send its start, close the connection."""

    async def fault(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(promised)})
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        request.transport.close()
        return response

    return fault


def waits(seconds: float) -> Fault:
    """Answer correctly, but late."""

    async def fault(request: web.Request) -> Any:
        await asyncio.sleep(seconds)

    return fault


def change(number: int, arn: str = "arn:task/a", reason: str = "") -> TaskChange:
    """Return the report with this number."""
    return TaskChange(
        id=f"c{number}", task_arn=arn, status="RUNNING", at=float(number), reason=reason
    )
