"""What this host runs, for programs on it: ``http://localhost:51678``, as on Amazon ECS.

============================= =====================================================================
``/``                         ``{"AvailableCommands": [...]}``
``/v1/metadata``              cluster, container instance (null until registered) and version
``/v1/tasks``                 ``{"Tasks": [...]}``
``/v1/tasks?taskarn=ARN``     one task
``/v1/tasks?dockerid=ID``     the task of a container; 12 characters or fewer are a beginning of its id
``/license``                  the license
============================= =====================================================================

Statuses and bodies of errors are those of Amazon's agent: 404 and 400 with an empty task, 500 with an
empty list, 500 without a body. Three of its oddities are left out: a path that does not exist is 404 and
not 200, methods other than GET and HEAD are 405, and the list of commands has its real content type.

It listens on every address of the host; the firewall closes the port to other hosts
(``network.firewall``). A port that is taken is tried again, and does not keep the agent from anything.
Source: Amazon ECS agent 1.105.1, ``ecs-agent/introspection``.
Tests: ``tests/unit/endpoints/test_introspection.py``, ``tests/integration/e2e/test_host_views.py``.
"""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import structlog
from aiohttp import web

from agent import __version__
from agent.endpoints import introspection_view
from agent.endpoints.http import server
from agent.endpoints.introspection_view import NO_TASK, AmbiguousId
from agent.errors import EngineUnavailable, RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from agent.listening.server import HttpServer
    from agent.model.task import AgentTask
    from agent.model.views import AgentView
    from agent.runtime.protocol import ContainerSummary

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COMMANDS: Final = ("/v1/metadata", "/v1/tasks", "/license")
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - the firewall closes it to other hosts
RETRY_S: Final = (1.0, 60.0)
"""First and longest wait before the port is tried again."""
_READ: Final = frozenset({"GET", "HEAD"})
_LIST_LIMIT_S: Final = 2.0
_LIST_KEPT_S: Final = 1.0
"""The engine is asked for its containers no more often than this."""
_BODY_BYTES: Final = 1024
_ABSENT: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_SEPARATOR: Final = "\n" + 80 * "=" + "\n"

_log = structlog.get_logger(__name__)


class Introspected(Protocol):
    """The agent as this endpoint shows it."""

    def agent_view(self) -> AgentView:
        """Return the current state of the agent."""

    def records(self) -> Collection[AgentTask]:
        """Return the records of all tasks, to read at once; raises ``EngineUnavailable`` at start."""

    async def containers(self) -> Sequence[ContainerSummary]:
        """Return the engine's list of the agent's containers; raises ``RuntimeFailure``."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Body of ``/v1/metadata``."""

    cluster: str = ""
    container_instance_arn: str | None = None
    version: str = ""


class Introspection:
    """The endpoint of one agent; ``run`` serves it."""

    name: Final = "introspection"

    def __init__(
        self, agent: Introspected, *, port: int, hosts: Sequence[str] = EVERYWHERE
    ) -> None:
        """Nothing is bound before ``run``.

        Args:
            agent: what is shown.
            port: of TCP; 0 picks a free one.
            hosts: the addresses to bind; those of a family that this host lacks are left out.
        """
        self.problem = ""
        """Why it does not listen; empty when it does, or was not tried yet."""
        self.port = 0
        """On which it listens; 0 while it does not."""
        self._agent = agent
        self._wanted = port
        self._hosts = hosts

    async def run(self) -> None:
        """Serve until cancelled."""
        wait_s, longest_s = RETRY_S
        while True:
            try:
                served = await self._open()
            except OSError as error:
                self._failed(error)
                await asyncio.sleep(wait_s)
                wait_s = min(longest_s, wait_s * 2)
                continue
            self.problem, self.port = "", served.addresses[0][1]
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.port = 0
                await served.close()

    async def _open(self) -> HttpServer:
        app = web.Application(middlewares=[_answering], client_max_size=_BODY_BYTES)
        calls = _Calls(self._agent)
        for path, handler in (
            ("/", calls.commands),
            ("/v1/metadata", calls.metadata),
            ("/v1/tasks", calls.tasks),
            ("/license", calls.license),
        ):
            app.router.add_get(path, handler)
        served = await server(app)
        try:
            await served.listen_tcp(self._hosts[0], self._wanted)
            for host in self._hosts[1:]:
                await _listen_if_any(served, host, served.addresses[0][1])
        except OSError:
            await served.close()
            raise
        return served

    def _failed(self, error: OSError) -> None:
        problem = (
            f"cannot listen on port {self._wanted} ({error.strerror}): the introspection endpoint and "
            "'ecs-agent healthcheck' do not work; end the other process, such as Amazon's agent, or set "
            "ECS_INTROSPECTION_PORT"
        )
        if problem != self.problem:
            _log.error("a port of the agent is taken", problem=problem)
        self.problem = problem


async def _listen_if_any(served: HttpServer, host: str, port: int) -> None:
    try:
        await served.listen_tcp(host, port)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise


class _Calls:
    """Answers requests."""

    def __init__(self, agent: Introspected) -> None:
        self._agent = agent
        self._images = _ImageIds(agent)

    async def commands(self, _request: web.Request) -> web.Response:
        """Answer with the paths there are."""
        return _json({"AvailableCommands": COMMANDS})

    async def metadata(self, _request: web.Request) -> web.Response:
        """Answer with what this host is for its cluster."""
        try:
            view = self._agent.agent_view()
        except Exception as error:  # noqa: BLE001 - the body for a failure is part of the protocol
            _log.error("introspection failed", path="/v1/metadata", error=repr(error))
            return _json(Metadata(), status=500)
        return _json(
            Metadata(
                cluster=view.cluster,
                container_instance_arn=view.instance_arn or None,
                version=f"ECS Host Agent - v{__version__}",
            )
        )

    async def tasks(self, request: web.Request) -> web.Response:
        """Answer with all tasks, or with the one that is asked for."""
        arn, docker_id = request.query.get("taskarn", ""), request.query.get("dockerid", "")
        try:
            records = self._agent.records()
        except EngineUnavailable:
            return _json({"Tasks": None}, status=500)
        if arn and docker_id:
            return _json(NO_TASK, status=400)
        if not arn and not docker_id:
            images = await self._images.read()
            return _json({"Tasks": [introspection_view.task(each, images) for each in records]})
        try:
            record = (
                next((each for each in records if each.arn == arn), None)
                if arn
                else introspection_view.find_by_container(records, docker_id)
            )
        except AmbiguousId:
            return _json(NO_TASK, status=400)
        if record is None:
            return _json(NO_TASK, status=404)
        return _json(introspection_view.task(record, await self._images.read()))

    async def license(self, _request: web.Request) -> web.Response:
        """Answer with the license."""
        text = await asyncio.to_thread(_license)
        if not text:
            return web.Response(status=500)
        return web.Response(text=text, content_type="text/plain")


class _ImageIds:
    """The ids of images by container, from one list of the engine for all who ask at a time."""

    def __init__(self, agent: Introspected) -> None:
        self._agent = agent
        self._found: dict[str, str] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def read(self) -> dict[str, str]:
        """Return them; what was known last if the engine does not answer."""
        async with self._lock:
            if time.monotonic() - self._read_at > _LIST_KEPT_S:
                try:
                    async with asyncio.timeout(_LIST_LIMIT_S):
                        listed = await self._agent.containers()
                    self._found = {one.id: one.image_id for one in listed}
                except (RuntimeFailure, TimeoutError):
                    pass
                self._read_at = time.monotonic()
            return self._found


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what goes wrong into an answer without a body; no request may end the agent."""
    try:
        if request.method not in _READ:
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        return await handler(request)
    except web.HTTPNotFound:
        return _json({"AvailableCommands": COMMANDS}, status=404)
    except web.HTTPException as error:
        return web.Response(status=error.status)
    except ConnectionError:  # the client left in the middle of an answer
        raise
    except Exception:  # noqa: BLE001 - as above
        _log.exception("introspection failed", path=request.path)
        failed = web.Response(status=500)
        failed.force_close()
        return failed


def _json(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


def _license() -> str:
    """Return the license texts that are installed with the agent; empty if there are none."""
    site = Path(__file__).parents[2]
    candidates = [
        *site.glob("ecs_host_agent-*.dist-info/licenses/LICENSE"),
        site / "LICENSE",
        Path("/usr/share/doc/ecs-agent/copyright"),
    ]
    texts = []
    for path in candidates:
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except OSError:
            continue
    return _SEPARATOR.join(dict.fromkeys(texts))
