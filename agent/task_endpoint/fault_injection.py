"""Fault injection: a task closes ports to itself, delays or loses its packets.

``POST $ECS_AGENT_URI/fault/v1/TYPE/start``, ``stop`` or ``status``; types and bodies are in
``fault_requests``. Only for tasks with ``enableFaultInjection`` in ``awsvpc`` or ``host`` mode, and only
for their own containers. The answer has ``Status`` (``running``, ``stopped``, ``not-running``) or
``Error``. What carries it out is loaded with the first request.

Source of paths, texts and statuses: Amazon ECS agent 1.105.1, ``ecs-agent/tmds/handlers/fault``. Tests:
``tests/unit/task_endpoint/test_fault_injection.py``, ``tests/integration/ecs/test_faults.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from agent.errors import NetworkFailure
from agent.model.status import NetworkMode
from agent.task_endpoint.contract import Route, answer
from agent.task_endpoint.throttle import RequestRate, Throttle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.model.task import AgentTask
    from agent.network.faults.injection import FaultPlace, Faults
    from agent.runtime.protocol import EngineEvent
    from agent.task_endpoint.contract import Call
    from agent.task_endpoint.metadata.parts import TaskTable

PATHS: Final = (
    "/api/(?P<id>[^/]*)/fault/v1/"
    "(?P<type>network-(?:blackhole-port|latency|packet-loss))/(?P<op>start|stop|status)"
)
RATE: Final = RequestRate(0.2, 1)
BUDGET_S: Final = 5.0
"""How long one request may take in all."""
_OP_WORDS: Final = {"start": "start", "stop": "stop", "status": "check status"}
_KIND_WORDS: Final = {"network-latency": "latency", "network-packet-loss": "packet loss"}
_SETTLED_S: Final = 2.0
"""After a container of the host's network ended: until its task has stopped, if it does."""

_log = structlog.get_logger(__name__)


class FaultInjection:
    """The faults of this host's tasks. Belongs to one event loop."""

    def __init__(
        self,
        task_of: Callable[[str], str],
        tasks: Callable[[], TaskTable],
        table: str,
    ) -> None:
        """Take where tasks are found; nothing is loaded before the first request.

        Args:
            task_of: returns the ARN of the task of an endpoint id; empty for one that nobody knows.
            tasks: returns the tasks of this host, which are made later.
            table: ``ECS_FIREWALL_TABLE``.
        """
        self._task_of = task_of
        self._tasks = tasks
        self._table = table
        self._made: Faults | None = None
        self._throttle = Throttle(RATE)
        self._on_host = False
        """Whether the host's namespace may have faults."""
        self._sweep: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        """Return the paths of faults."""
        return [Route(PATHS, self._serve, frozenset({"POST"}))]

    def take_note_of(self, event: EngineEvent) -> None:
        """Remove faults of the host soon if the last task that may have them has stopped."""
        if self._on_host and event.action == "die" and (self._sweep is None or self._sweep.done()):
            self._sweep = asyncio.create_task(self._sweep_later(), name="sweep-faults")

    async def reconcile(self) -> None:
        """Remove faults of the host if no task is left that may have them; failures are logged."""
        table = self._tasks()
        records = map(table.record, table.known_tasks())
        tasks = [record for record in records if record and _may_impair_host(record)]
        if any(not record.is_done for record in tasks):
            self._on_host = True
            return
        # One that has stopped since may have left some to an earlier process.
        if not tasks and not self._on_host:
            return
        try:
            await self._faults().remove_all(_place_of_host())
        except NetworkFailure as error:
            _log.warning("faults of the host not removed", error=str(error))
        else:
            self._on_host = False

    async def close(self) -> None:
        """End the work in the background; faults stay. Idempotent."""
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.wait([self._sweep])

    async def _sweep_later(self) -> None:
        await asyncio.sleep(_SETTLED_S)
        await self.reconcile()

    async def _serve(self, call: Call) -> web.StreamResponse:
        if not self._throttle.take(call.peer.ipv4, call.request.path):
            response: web.Response = web.Response(
                status=429, text="You have reached maximum request limit", charset="utf-8"
            )
        else:
            response = await self._answer(call)
        response.headers.add("X-Rate-Limit-Limit", f"{RATE.per_s:.2f}")
        return response

    async def _answer(self, call: Call) -> web.Response:
        from agent.task_endpoint.fault_requests import BadFault  # noqa: PLC0415 - few tasks ask

        kind, op = call.match["type"], call.match["op"]
        try:
            work = _read(kind, op, await call.body())
        except BadFault as error:
            return _error(400, str(error))
        task_arn = self._task_of(call.match["id"])
        if not task_arn or not await call.is_from(task_arn):
            unknown = f"unable to get task Arn from v3 endpoint ID: {call.match['id']}"
            return _error(404, f"unable to get task arn from request: {unknown}")
        record = self._tasks().record(task_arn)
        if record is None:
            return _error(500, f"Unable to generate metadata for v4 task: '{task_arn}'")
        place = self._place(record)
        if isinstance(place, web.Response):
            return place
        return await self._carry_out(work, place, f"{_OP_WORDS[op]} {kind}")

    def _place(self, record: AgentTask) -> FaultPlace | web.Response:
        """Return where the faults of a task are, or why there can be none."""
        from agent.network.faults.injection import FaultPlace  # noqa: PLC0415 - few tasks ask

        mode = record.payload.mode
        if not record.payload.enable_fault_injection:
            return _error(400, f"enableFaultInjection is not enabled for task: {record.arn}")
        if mode is NetworkMode.HOST:
            return FaultPlace()
        if mode is not NetworkMode.AWSVPC:
            return _error(
                400, f"{mode.value} mode is not supported. Please use either host or awsvpc mode."
            )
        if record.network is None or not record.network_held:
            return _error(500, f"the task has no network: {record.arn}")
        return FaultPlace(record.network.sandbox_pid)

    async def _carry_out(
        self, work: Callable[[Faults, FaultPlace], Awaitable[str]], place: FaultPlace, what: str
    ) -> web.Response:
        from agent.network.faults.injection import AlreadyRunning  # noqa: PLC0415 - few tasks ask

        if not place.sandbox_pid:
            self._on_host = True
        try:
            async with asyncio.timeout(BUDGET_S):
                return answer({"Status": await work(self._faults(), place)})
        except TimeoutError:
            return _error(500, f"{what}: request timed out")
        except AlreadyRunning as error:
            word = _KIND_WORDS[error.kind.value]
            return _error(409, f"There is already one network {word} fault running")
        except NetworkFailure as error:
            _log.warning("fault of a task", what=what, error=str(error))
            return _error(500, f"{what}: {error}")

    def _faults(self) -> Faults:
        if self._made is None:
            from agent.network.faults.injection import Faults  # noqa: PLC0415 - few tasks ask

            self._made = Faults(self._table)
        return self._made


def _read(kind: str, op: str, body: bytes) -> Callable[[Faults, FaultPlace], Awaitable[str]]:
    """Return what a request asks for; raises ``BadFault``."""
    from agent.network.faults.fault import Kind  # noqa: PLC0415 - few tasks ask
    from agent.task_endpoint import fault_requests  # noqa: PLC0415 - few tasks ask

    if kind == Kind.BLACKHOLE:
        hole = fault_requests.blackhole(body)

        async def of_port(faults: Faults, place: FaultPlace) -> str:
            if op == "status":
                return _running(await faults.has_blackhole(place, hole.name))
            if op == "stop":
                await faults.stop_blackhole(place, hole.name)
                return "stopped"
            await faults.start_blackhole(place, hole)
            return "running"

        return of_port
    of_kind = Kind(kind)
    impairment = fault_requests.IMPAIRMENTS[of_kind](body) if op == "start" else None

    async def of_packets(faults: Faults, place: FaultPlace) -> str:
        if impairment is not None:
            await faults.start_impairment(place, impairment)
            return "running"
        if op == "stop":
            await faults.stop_impairment(place, of_kind)
            return "stopped"
        return _running(await faults.impairment(place) is of_kind)

    return of_packets


def _running(is_running: bool) -> str:
    return "running" if is_running else "not-running"


def _may_impair_host(record: AgentTask) -> bool:
    return record.payload.enable_fault_injection and record.payload.mode is NetworkMode.HOST


def _place_of_host() -> FaultPlace:
    from agent.network.faults.injection import FaultPlace  # noqa: PLC0415 - few tasks ask

    return FaultPlace()


def _error(status: int, text: str) -> web.Response:
    body: dict[str, Any] = {"Error": text}
    return answer(body, status=status)
