"""What operators ask and order over the socket, as JSON over HTTP. Answers are ``model.views`` types.

======= =========================== ==============================================================
GET     ``/v1/agent``               ``AgentView``
GET     ``/v1/tasks``               list of ``TaskView``
GET     ``/v1/tasks/{task}``        ``TaskView``, with ``launch``
POST    ``/v1/tasks/{task}/stop``   ``{"reason": text}`` → 202 ``TaskView``; durable when answered
GET     ``/v1/tasks/{task}/logs``   ``?container=&tail=&follow=&since=&timestamps=`` → bytes as written, or
                                    each line after its time; ``since`` in nanoseconds
GET     ``/v1/usage``               ``?after=&every=`` → ``UsageView`` of a round other than ``after``
                                    (``usage``)
GET     ``/v1/network``             ``NetworkView``
POST    ``/v1/network/check``       ``CheckOrder`` → ``NetworkCheckView``
POST    ``/v1/tasks/{task}/trace``  ``TraceOrder`` → ``TraceView``, after a few seconds at most
POST    ``/v1/drain``               ``DrainOrder`` → 202 ``AgentView``; durable when answered
GET     ``/v1/tasks/{task}/exec``   a WebSocket with the messages of ``model.exec``
======= =========================== ==============================================================

``{task}`` is the id of a task, the beginning of an id, an ARN with escaped slashes, or a name that
matches only one task (see ``lookup``). Errors are ``views.Problem``: 400 bad request, 404 unknown,
409 ambiguous or not possible now, 503 the engine does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from agent.endpoints import usage
from agent.endpoints.exec_sessions import ExecSessions
from agent.endpoints.http import RequestRefused, answer, application
from agent.endpoints.lookup import container_of, find
from agent.errors import BAD_JSON, RuntimeFailure
from agent.model.network_views import CheckOrder, TraceOrder
from agent.model.views import DrainOrder
from agent.runtime.protocol import LogSelection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from agent.endpoints.lookup import Meant
    from agent.endpoints.source import AgentSource
    from agent.model.views import ContainerView

_FIRST_BYTES_S = 0.5
"""A log that fails within this time is answered with a ``Problem``; a quiet log starts empty."""

BODY_LIMIT_S = 10.0
"""How long a body may take to arrive."""

_DEFAULT_REASON = "Task stopped by an operator of the host"


class _StopOrder(msgspec.Struct):
    reason: str = ""


class OperatorApi:
    """Answers operators from one agent."""

    def __init__(self, agent: AgentSource) -> None:
        self._agent = agent
        self._followers: set[asyncio.Task[Any]] = set()
        self._execs = ExecSessions(agent)

    def application(self) -> web.Application:
        """Return the application that serves this."""
        app = application()
        app.add_routes(
            [
                web.get("/v1/agent", self._get_agent),
                web.post("/v1/drain", self._drain),
                web.get("/v1/usage", self._get_usage),
                web.get("/v1/network", self._get_network),
                web.post("/v1/network/check", self._check_network),
                web.get("/v1/tasks", self._get_tasks),
                web.get("/v1/tasks/{task}", self._get_task),
                web.post("/v1/tasks/{task}/stop", self._stop_task),
                web.get("/v1/tasks/{task}/logs", self._get_logs),
                web.get("/v1/tasks/{task}/exec", self._exec),
                web.post("/v1/tasks/{task}/trace", self._trace),
            ]
        )
        return app

    def end_followers(self) -> None:
        """End followed logs and commands in containers: by themselves they may never end."""
        for follower in self._followers:
            follower.cancel()

    async def followers_ended(self) -> None:
        """Return when none of them is left."""
        if self._followers:
            await asyncio.wait(self._followers)

    async def _get_agent(self, _request: web.Request) -> web.Response:
        return answer(self._agent.agent_view())

    async def _get_usage(self, request: web.Request) -> web.Response:
        after, every_s = usage.asked(request.query)
        with self._following():
            return answer(await usage.newest(self._agent, after=after, every_s=every_s))

    async def _get_tasks(self, _request: web.Request) -> web.Response:
        return answer(self._agent.task_views())

    async def _get_task(self, request: web.Request) -> web.Response:
        task = self._meant(request).task
        launch = self._agent.launch_view(task.arn)
        return answer(msgspec.structs.replace(task, launch=launch))

    async def _stop_task(self, request: web.Request) -> web.Response:
        task = self._meant(request).task
        body = await _body(request)
        try:
            order = msgspec.json.decode(body, type=_StopOrder)
        except BAD_JSON as error:
            raise RequestRefused(400, f'the body must be {{"reason": "text"}}: {error}') from None
        await self._agent.stop_task(task.arn, order.reason or _DEFAULT_REASON)
        now = (view for view in self._agent.task_views() if view.arn == task.arn)
        return answer(next(now, task), status=202)

    async def _drain(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await _body(request), type=DrainOrder)
        except BAD_JSON as error:
            raise RequestRefused(400, f"the body is not an order to drain: {error}") from None
        await self._agent.drain(wanted=order.wanted, deadline=order.deadline)
        return answer(self._agent.agent_view(), status=202)

    async def _get_network(self, _request: web.Request) -> web.Response:
        return answer(await self._agent.network().view())

    async def _check_network(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await _body(request), type=CheckOrder)
        except BAD_JSON as error:
            raise RequestRefused(400, f"the body is not an order to check: {error}") from None
        return answer(await self._agent.network().check(repair=order.repair))

    async def _trace(self, request: web.Request) -> web.Response:
        task = self._meant(request).task
        try:
            order = msgspec.json.decode(await _body(request), type=TraceOrder)
        except BAD_JSON as error:
            raise RequestRefused(400, f"the body is not an order to trace: {error}") from None
        created = [container.runtime_id for container in task.containers if container.runtime_id]
        if task.status == "STOPPED" or not created:
            raise RequestRefused(409, f"task {task.id} has no container that runs")
        view = await self._agent.network().trace(
            task.arn,
            created,
            peer=self._address_of(order.peer),
            port=order.port,
            protocol=order.protocol,
        )
        return answer(view)

    def _address_of(self, peer: str) -> str:
        with contextlib.suppress(ValueError):
            return str(ip_address(peer))
        task = find(self._agent.task_views(), peer).task
        if not task.ipv4:
            text = f"task {task.id} has no address of its own; give the address where it listens"
            raise RequestRefused(409, text)
        return task.ipv4

    async def _get_logs(self, request: web.Request) -> web.StreamResponse:
        container = _choose(self._meant(request), request.query.get("container", ""))
        selection = LogSelection(
            tail=_count(request.query, "tail", "a number of lines, for example 100", digits=9),
            follow=_flag(request.query, "follow"),
            since_ns=_count(request.query, "since", "nanoseconds since the epoch", digits=19) or 0,
            timestamps=_flag(request.query, "timestamps"),
        )
        stream = self._agent.container_logs(container.runtime_id, selection)
        with self._following():
            return await _pass_on(request, stream)

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        with self._following():
            return await self._execs.serve(request, self._meant)

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """Have ``end_followers`` end the handler that runs now."""
        follower = asyncio.current_task()
        assert follower is not None  # noqa: S101 - a handler always runs in a task
        self._followers.add(follower)
        try:
            yield
        finally:
            self._followers.discard(follower)

    def _meant(self, request: web.Request) -> Meant:
        return find(self._agent.task_views(), request.match_info["task"])


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            return await request.read() or b"{}"
    except TimeoutError:
        raise RequestRefused(408, "the body did not arrive in time") from None


def _choose(meant: Meant, name: str) -> ContainerView:
    """Return the named container; without a name, the one that matched, or the only one."""
    task = meant.task
    chosen = container_of(meant, name, mend="choose one with --container")
    if not chosen.runtime_id:
        text = (
            f"container {chosen.name!r} of task {task.id} has not been created, so it has no log;"
            f" 'ecs-agent why {task.id}' shows what it waits for"
        )
        raise RequestRefused(409, text)
    return chosen


def _count(query: Mapping[str, str], name: str, what: str, *, digits: int) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        raise RequestRefused(400, f"{name}={text} must be {what}")
    return int(text)


def _flag(query: Mapping[str, str], name: str) -> bool:
    known = {"": False, "0": False, "false": False, "1": True, "true": True}
    text = query.get(name, "")
    if text.lower() not in known:
        raise RequestRefused(400, f"{name}={text} must be true or false")
    return known[text.lower()]


async def _pass_on(request: web.Request, stream: AsyncIterator[bytes]) -> web.StreamResponse:
    """Send a log as it comes, no faster than the client reads it.

    If a log fails after its first bytes, the connection is aborted, so that the client does not
    consider the log complete.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    first = asyncio.create_task(_next(stream))
    try:
        await asyncio.wait({first}, timeout=_FIRST_BYTES_S)
        if first.done():
            first.result()
        await response.prepare(request)
        try:
            chunk = await first
            while chunk is not None:
                await response.write(chunk)
                chunk = await _next(stream)
        except RuntimeFailure:
            if request.transport is not None:
                request.transport.abort()
            return response
        await response.write_eof()
        return response
    finally:
        first.cancel()
        await asyncio.wait({first})
        if not first.cancelled():
            first.exception()  # handled above, or irrelevant because the client is gone
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    return await anext(stream, None)
