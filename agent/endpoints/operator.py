"""The operators' endpoint: JSON over HTTP on a Unix socket, for ``ecs-agent status`` and so on.

It works while control is down, because it uses only this agent. Answers are ``model.views`` types.

======= =========================== ==============================================================
GET     ``/v1/agent``               ``AgentView``
GET     ``/v1/tasks``               list of ``TaskView``
GET     ``/v1/tasks/{task}``        ``TaskView``
POST    ``/v1/tasks/{task}/stop``   ``{"reason": text}`` → 202 ``TaskView``; durable when answered
GET     ``/v1/tasks/{task}/logs``   ``?container=&tail=&follow=`` → bytes as written
======= =========================== ==============================================================

``{task}`` is the id of a task, the beginning of an id, an ARN with escaped slashes, or a name that
matches only one task (see ``lookup``). Errors are ``views.Problem``: 400 bad request, 404 unknown,
409 ambiguous or not possible now, 503 the engine does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from aiohttp import web

from agent.endpoints import unix_socket
from agent.endpoints.http import RequestRefused, answer, application, server
from agent.endpoints.lookup import find
from agent.errors import ConfigError, RuntimeFailure
from agent.inotify import DirectoryWatch
from agent.model.views import RepairView

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.endpoints.lookup import Meant
    from agent.endpoints.source import AgentSource
    from agent.listening.server import HttpServer
    from agent.model.views import ContainerView

_FIRST_BYTES_S = 0.5
"""A log that fails within this time is answered with a ``Problem``; a quiet log starts empty."""

BODY_LIMIT_S = 10.0
"""How long a body may take to arrive."""

LOOK_EVERY_S = 60.0
"""How often the agent checks that the socket exists, although the kernel reports its removal."""

UNTOLD_LOOK_EVERY_S = 5.0
"""How often it checks without a watch of the kernel, and while the socket cannot be created."""

CALM_S = 0.1
"""Shortest time between two checks: repeated removals must not keep the agent busy."""

_REMEMBERED = 20

_LISTED = 8
"""How many containers a message names."""

_log = structlog.get_logger(__name__)

_DEFAULT_REASON = "Task stopped by an operator of the host"


class _StopOrder(msgspec.Struct):
    reason: str = ""


class OperatorSocket:
    """Serves one agent on one Unix socket, mode 0600."""

    def __init__(self, path: Path, agent: AgentSource) -> None:
        self._path = path
        self._agent = agent
        self._made = (0, 0)
        self._server: HttpServer | None = None
        self._listener: socket.socket | None = None
        self._followers: set[asyncio.Task[Any]] = set()
        self.repairs: deque[RepairView] = deque(maxlen=_REMEMBERED)
        """The newest times that others removed the socket, oldest first."""
        self.problem = ""
        """Why the socket is missing; empty if it is present."""

    async def start(self) -> None:
        """Listen; replaces a socket that a dead agent left.

        Raises:
            ConfigError: another agent answers on the path, or the path cannot be used.
        """
        app = application()
        app.add_routes(
            [
                web.get("/v1/agent", self._get_agent),
                web.get("/v1/tasks", self._get_tasks),
                web.get("/v1/tasks/{task}", self._get_task),
                web.post("/v1/tasks/{task}/stop", self._stop_task),
                web.get("/v1/tasks/{task}/logs", self._get_logs),
            ]
        )
        listener = await self._claim()
        self._server = await server(app)
        self._listener = listener
        self._server.listen(listener, is_trusted=True)

    async def _claim(self) -> socket.socket:
        listener = await asyncio.to_thread(unix_socket.claim, self._path)
        self._made = await asyncio.to_thread(unix_socket.identity, self._path)
        return listener

    async def keep(self) -> None:
        """Recreate the socket whenever it was removed, until cancelled.

        A process keeps listening on a removed socket that clients cannot find, and the command line
        would report that no agent runs. A socket of another process is left alone.
        """
        with contextlib.ExitStack() as cleanup:
            news = _watch_of()
            if news is not None:
                cleanup.callback(news.close)
            while True:
                # Watched before it is looked for, so that no removal falls in between.
                is_told = await asyncio.to_thread(_begin, news, self._path.parent)
                if await asyncio.to_thread(unix_socket.identity, self._path) == (0, 0):
                    await self._make_again()
                    await asyncio.sleep(CALM_S)
                    if not self.problem:
                        continue  # its directory may be a new one, which nobody watches yet
                wait_s = LOOK_EVERY_S if is_told and not self.problem else UNTOLD_LOOK_EVERY_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await (news.changed() if news is not None and is_told else _forever())
                        await asyncio.sleep(CALM_S)

    async def _make_again(self) -> None:
        try:
            await self._listen_again()
        except (ConfigError, OSError) as error:
            if not self.problem:
                _log.error("the operator socket cannot be made again", error=str(error))
            self.problem = f"the operator socket was removed and cannot be made: {error}"
            return
        self.problem = ""
        self.repairs.append(RepairView(at=time.time(), found="the operator socket was removed"))
        _log.warning("the operator socket was removed; made again", path=str(self._path))

    async def _listen_again(self) -> None:
        served, old = self._server, self._listener
        if served is None or old is None:
            return
        self._listener = await self._claim()
        served.listen(self._listener, is_trusted=True)
        served.leave(old)

    async def close(self) -> None:
        """Stop listening, end log followers, and remove the socket; may be repeated."""
        served, self._server = self._server, None
        for follower in self._followers:
            follower.cancel()
        if served is not None:
            await served.close()
            await asyncio.to_thread(unix_socket.release, self._path, self._made)

    async def _get_agent(self, _request: web.Request) -> web.Response:
        return answer(self._agent.agent_view())

    async def _get_tasks(self, _request: web.Request) -> web.Response:
        return answer(self._agent.task_views())

    async def _get_task(self, request: web.Request) -> web.Response:
        return answer(self._meant(request).task)

    async def _stop_task(self, request: web.Request) -> web.Response:
        task = self._meant(request).task
        try:
            async with asyncio.timeout(BODY_LIMIT_S):
                body = await request.read() or b"{}"
        except TimeoutError:
            raise RequestRefused(408, "the body did not arrive in time") from None
        try:
            order = msgspec.json.decode(body, type=_StopOrder)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise RequestRefused(400, f'the body must be {{"reason": "text"}}: {error}') from None
        await self._agent.stop_task(task.arn, order.reason or _DEFAULT_REASON)
        now = (view for view in self._agent.task_views() if view.arn == task.arn)
        return answer(next(now, task), status=202)

    async def _get_logs(self, request: web.Request) -> web.StreamResponse:
        container = _choose(self._meant(request), request.query.get("container", ""))
        tail = _count(request.query.get("tail", ""))
        follow = _flag(request.query.get("follow", ""))
        stream = self._agent.container_logs(container.runtime_id, tail=tail, follow=follow)
        follower = asyncio.current_task()
        assert follower is not None  # noqa: S101 - a handler always runs in a task
        self._followers.add(follower)
        try:
            return await _pass_on(request, stream)
        finally:
            self._followers.discard(follower)

    def _meant(self, request: web.Request) -> Meant:
        return find(self._agent.task_views(), request.match_info["task"])


def _watch_of() -> DirectoryWatch | None:
    """Return what tells of removals; None where the kernel gives none, which is logged."""
    try:
        return DirectoryWatch()
    except OSError as error:
        _log.warning(
            "no news of the operator socket's removal; it is looked for",
            error=str(error),
            every_s=UNTOLD_LOOK_EVERY_S,
            mend="raise fs.inotify.max_user_instances",
        )
        return None


def _begin(news: DirectoryWatch | None, directory: Path) -> bool:
    """Watch a directory; tell whether its news will come. Blocks on the file system."""
    if news is None:
        return False
    try:
        news.watch(directory)
    except OSError:
        return False
    return True


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


def _choose(meant: Meant, name: str) -> ContainerView:
    """Return the named container; without a name, the one that matched, or the only one."""
    task = meant.task
    name = name or meant.container
    names = ", ".join(container.name for container in task.containers[:_LISTED])
    if len(task.containers) > _LISTED:
        names += f" and {len(task.containers) - _LISTED} more"
    if not name and len(task.containers) != 1:
        text = f"task {task.id} has several containers; choose one with --container: {names}"
        raise RequestRefused(400, text)
    chosen = next((c for c in task.containers if name in ("", c.name)), None)
    if chosen is None:
        raise RequestRefused(404, f"task {task.id} has no container {name!r}; it has {names}")
    if not chosen.runtime_id:
        text = (
            f"container {chosen.name!r} of task {task.id} has not been created, so it has no log;"
            f" 'ecs-agent why {task.id}' shows what it waits for"
        )
        raise RequestRefused(409, text)
    return chosen


def _count(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise RequestRefused(400, f"tail={text} must be a number of lines, for example 100")
    return int(text)


def _flag(text: str) -> bool:
    known = {"": False, "0": False, "false": False, "1": True, "true": True}
    if text.lower() not in known:
        raise RequestRefused(400, f"follow={text} must be true or false")
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
