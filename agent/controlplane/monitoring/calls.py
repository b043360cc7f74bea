"""The calls of programs that watch the fleet.

::

    GET /metrics                               metrics of control and its fleet
    GET /prometheus/tasks[?cluster=NAME]       what to scrape of tasks, for Prometheus' http_sd_configs
    GET /prometheus/agents[?cluster=NAME]      the /metrics of agents, likewise
    GET /control/status                        how control is (``model.control_status``)

Who sends a token for readers may call them, and every operator. While the store does not answer, targets are
answered 503, so that Prometheus keeps those that it has; metrics then lack those of the fleet.

Tests: ``tests/unit/controlplane/monitoring/test_calls.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from aiohttp import web

from agent import __version__, exposition, process
from agent.controlplane.front.errors import ApiError
from agent.controlplane.monitoring import families, status
from agent.controlplane.monitoring.families import ControlState
from agent.controlplane.monitoring.fleet_view import FleetView
from agent.controlplane.store.contract import StoreFailure
from agent.listening.connection import prove
from agent.throttle import RepeatedWarning

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.controlplane.agents.wakeups import WakeUps
    from agent.controlplane.front.operators import Operators
    from agent.controlplane.monitoring.fleet_view import Counts
    from agent.controlplane.monitoring.reader_tokens import ReaderTokens
    from agent.controlplane.parts import Parts
    from agent.exposition import Family

METRICS_PATH: Final = "/metrics"
TASKS_PATH: Final = "/prometheus/tasks"
AGENTS_PATH: Final = "/prometheus/agents"
STATUS_PATH: Final = "/control/status"
CALL_LIMIT_S: Final = 30.0
_GZIP_FROM_BYTES: Final = 1024
_GZIP_IN_THREAD_BYTES: Final = 64 * 1024
_NO_BODY: Final = hashlib.sha256(b"").hexdigest()

_log = structlog.get_logger(__name__)


class Monitoring:
    """What all addresses of control share to answer these calls."""

    def __init__(self, parts: Parts, tokens: ReaderTokens, wakeups: WakeUps) -> None:
        self.tokens = tokens
        self._parts = parts
        self._wakeups = wakeups
        self._view = FleetView(parts.store, parts.names.region)
        self._started_at = time.time()
        self._process = status.Process.here()
        self._refused = RepeatedWarning("call for metrics refused", clock=time.monotonic)

    def add_routes(self, router: web.UrlDispatcher, operators: Operators) -> None:
        """Add the calls to an application of an address where ``operators`` decides who is one."""
        for path, call in (
            (METRICS_PATH, self._metrics_call),
            (TASKS_PATH, self._tasks_call),
            (AGENTS_PATH, self._agents_call),
        ):
            router.add_get(path, self._answering(call, operators))
        for add in (router.add_get, router.add_post):
            add(STATUS_PATH, self._answering(self._status_call, operators))

    def _answering(
        self, call: Callable[[web.Request], Awaitable[web.Response]], operators: Operators
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            if not self._may_read(request, operators):
                self._refused.tell(peer=request.remote or "", path=request.path)
                return _refusal()
            prove(request)
            try:
                async with asyncio.timeout(CALL_LIMIT_S):
                    answer = await call(request)
            except (StoreFailure, TimeoutError) as error:
                _log.warning("monitoring call failed", path=request.path, error=repr(error))
                return web.Response(status=503, text="the store does not answer\n")
            if answer.content_length and answer.content_length > _GZIP_FROM_BYTES:
                answer.enable_compression()
            return answer

        return handler

    def _may_read(self, request: web.Request, operators: Operators) -> bool:
        if self.tokens.admits(request.headers.get("Authorization")):
            return True
        try:
            operators.expect(request)
            operators.check(request, _NO_BODY, "control:GetMetrics")
        except ApiError:
            return False
        return True

    async def _tasks_call(self, request: web.Request) -> web.Response:
        return _document(await self._view.task_targets(request.query.get("cluster", "")))

    async def _agents_call(self, request: web.Request) -> web.Response:
        return _document(await self._view.agent_targets(request.query.get("cluster", "")))

    async def _status_call(self, _: web.Request) -> web.Response:
        counts = await self._counts()
        found = await status.read(self._parts, self._wakeups, self._process, counts)
        return _document(msgspec.json.encode(found))

    async def _counts(self) -> Counts | None:
        """Return how many hosts and tasks there are; None if the store does not answer."""
        try:
            async with asyncio.timeout(CALL_LIMIT_S / 2):
                return await self._view.counts()
        except (StoreFailure, TimeoutError) as error:
            _log.warning("metrics of the fleet are missing", error=repr(error))
            return None

    async def _metrics_call(self, request: web.Request) -> web.Response:
        counts = await self._counts()
        size = await asyncio.to_thread(self._parts.store_place.size_bytes)
        use = await asyncio.to_thread(process.read)
        found = [*self._families(counts, size), *process.families(use, self._started_at)]
        is_open = exposition.wants_open_metrics(request.headers.get("Accept", ""))
        return web.Response(
            body=exposition.page(found, open_metrics=is_open).encode(),
            headers={"Content-Type": exposition.OPEN_METRICS if is_open else exposition.TEXT},
            zlib_executor_size=_GZIP_IN_THREAD_BYTES,
        )

    def _families(self, counts: Counts | None, store_bytes: int) -> list[Family]:
        parts = self._parts
        state = ControlState(
            version=__version__,
            region=parts.names.region,
            revision=parts.store.revision,
            is_store_well=counts is not None and not parts.store.problem,
            store_bytes=store_bytes,
            polls=self._wakeups.held,
            silent=len(self._wakeups.silent(status.SLOW_S)),
            wake_ups=self._wakeups.times,
            troubles=len(parts.troubles()),
            audited=(parts.audit.written, parts.audit.lost) if parts.audit else None,
        )
        fleet = families.of_fleet(counts) if counts is not None else ()
        hosts = families.of_hosts(parts.host_hooks)
        return [*families.of_control(state), *fleet, *hosts, *families.of_figures(parts.figures)]


def _document(body: bytes) -> web.Response:
    return web.Response(
        body=body, content_type="application/json", zlib_executor_size=_GZIP_IN_THREAD_BYTES
    )


def _refusal() -> web.Response:
    answer = web.Response(
        status=401,
        text="send a token of --metrics-token-file as 'Authorization: Bearer TOKEN'\n",
        headers={"WWW-Authenticate": "Bearer"},
    )
    answer.force_close()  # a stranger keeps no connection
    return answer
