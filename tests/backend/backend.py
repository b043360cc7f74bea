"""The whole back end: an API, ACS and TCS on one port of the loopback, and their journal.

    with Backend() as backend:
        ...start an agent with ECS_BACKEND_HOST=backend.url...
        backend.acs.wait_open()

All methods are for the test's thread. At the end ``backend.problems()`` names every rule of the wire
that the agent broke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from tests.backend import oracle
from tests.backend.acs import Acs
from tests.backend.api import Api
from tests.backend.hosted import Hosted
from tests.backend.journal import Journal
from tests.backend.signatures import Clock, Keys, Verifier
from tests.backend.tcs import Tcs

if TYPE_CHECKING:
    from tests.backend.faults import Fault, Match, Scripted
    from tests.backend.journal import Call

KEYS = Keys("AKIDBACKEND", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


class Backend(Hosted):
    """Amazon ECS, as far as an agent can see it."""

    def __init__(self, *keys: Keys) -> None:
        super().__init__()
        self.journal = Journal()
        self.clock = Clock()
        verifier = Verifier(keys or (KEYS,), self.clock)
        self.verifier = verifier
        self.api = Api(self.journal, verifier)
        self.acs = Acs(self.api, self.journal, verifier)
        self.tcs = Tcs(self.api, self.journal, verifier)
        self.acs.run = self.tcs.run = self.run
        self.lives = 1
        """How many processes of the agent there were."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request of any kind."""
        if "X-Amz-Target" in request.headers:
            return await self.api.handle(request)
        # One endpoint is given with a slash at its end and one without.
        match (request.method, request.path):
            case ("GET", "/acs/ws"):
                return await self.acs.handle(request)
            case ("GET", "/telemetry/here/ws"):
                return await self.tcs.handle(request)
        self.journal.complain("http", f"{request.method} {request.raw_path}")
        return web.Response(status=404)

    async def _serve(self) -> None:
        await super()._serve()
        self.api.endpoints = {
            "endpoint": f"{self.url}/acs",
            "telemetryEndpoint": f"{self.url}/telemetry/here/",
            "serviceConnectEndpoint": "https://ecs-sc.us-east-1.api.aws",
            "systemLogsEndpoint": "https://ecs-sl.us-east-1.api.aws",
        }

    # -- what a test does -------------------------------------------------------------------------

    def fault(
        self, operation: str, fault: Fault, *, times: int = 1, where: Match | None = None
    ) -> Scripted:
        """Let the next calls of an operation (``*``: of any) go wrong; -1 times is until cleared."""
        return self.api.script.add(operation, fault, times, where)

    def reports(self, task: str = "") -> list[Call]:
        """Return the reports of a task, or of all, answered or not."""
        return [
            c
            for c in self.journal.calls("SubmitTaskStateChange")
            if not task or c.request.get("task") == task
        ]

    def wait_status(self, task: str, status: str, *, within_s: float = 60.0) -> Call:
        """Return the report of a status that was accepted."""

        def look() -> Call | None:
            for call in self.reports(task):
                if call.accepted and call.request.get("status") == status:
                    return call
            return None

        call = self.journal.wait(look, within_s=within_s, what=f"{task} reported {status}")
        assert call is not None
        return call

    def wait_calls(self, operation: str, count: int = 1, *, within_s: float = 40.0) -> list[Call]:
        """Return the calls of an operation once there are so many that have ended."""

        def look() -> list[Call]:
            ended = [c for c in self.journal.calls(operation) if c.ended_at is not None]
            return ended if len(ended) >= count else []

        return self.journal.wait(look, within_s=within_s, what=f"{count} times {operation}")

    def problems(self) -> list[str]:
        """Return every rule of the wire that the agent broke."""
        return self.journal.problems() + oracle.judge(self.reports(), lives=self.lives)
