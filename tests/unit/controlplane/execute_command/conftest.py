"""A real control endpoint, and an agent whose sessions are real but whose containers are not."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSServerHandshakeError
from msgspec.structs import replace

from agent.endpoints.exec_sessions import ExecSessions
from tests.support.control_endpoint import (
    CAPABILITIES,
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)
from tests.support.session_plugin import PluginClient
from tests.unit.endpoints.conftest import FakeAgent, FakeSession, container_view, task_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import ClientWebSocketResponse

ATTRIBUTE = "ecs-host-agent.execute-command"


class Stage:
    """One control with one host, and a task in which commands may be run."""

    def __init__(self, control: Endpoint) -> None:
        self.control = control
        self.agent = ScriptedAgent(control, attributes={**CAPABILITIES, ATTRIBUTE: ""})
        self.host = FakeAgent()
        self.command = FakeSession()
        self.host.exec_session = self.command
        self.sessions = ExecSessions(self.host)
        self.task = ""
        self.sockets: list[ClientWebSocketResponse] = []
        self.orders: list[str] = []

    async def begin(self) -> None:
        """Register the host and run the task."""
        await self.agent.register()
        await self.control.call("RegisterTaskDefinition", **definition())
        self.task = await self.run_task(enableExecuteCommand=True)

    async def run_task(self, **request: Any) -> str:
        """Run a task that is RUNNING on the host."""
        answer = await self.control.call("RunTask", taskDefinition="web", **request)
        assert not answer["failures"]
        arn: str = answer["tasks"][0]["taskArn"]
        await self.agent.poll()
        await self.agent.report(a_report(arn, "RUNNING"))
        view = task_view(arn.rsplit("/", 1)[-1], container_view("main", "r1"))
        self.host.tasks = [replace(view, arn=arn)]
        return arn

    async def execute(self, **changes: Any) -> dict[str, Any]:
        """Call ExecuteCommand."""
        asked = {"task": self.task, "command": "/bin/sh -c 'a b'", "interactive": True}
        return await self.control.call("ExecuteCommand", **(asked | changes))

    async def session(self, **changes: Any) -> dict[str, str]:
        """Call ExecuteCommand and return what opens the session."""
        opening: dict[str, str] = (await self.execute(**changes))["session"]
        return opening

    async def obey(self) -> None:
        """Connect for every session that control tells of, as an agent does."""
        async with asyncio.TaskGroup() as group:
            while True:
                answer = await self.agent.poll(wait_s=5)
                for order in answer.commands if answer is not None else ():
                    self.orders.append(order.session_id)
                    group.create_task(self._carry(order.session_id, order.task_arn))

    async def connect(self, session_id: str) -> ClientWebSocketResponse:
        """Open the WebSocket of an agent for a session."""
        return await self.control.session.ws_connect(
            f"{self.control.url}/v1/instances/{self.agent.id}/commands/{session_id}",
            headers=self.agent.shown,
        )

    async def _carry(self, session_id: str, task_arn: str) -> None:
        try:
            socket = await self.connect(session_id)
        except WSServerHandshakeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return  # its client was gone before the agent came, which an agent only logs
            raise
        self.sockets.append(socket)
        try:
            await self.sessions.carry(socket, task_arn)
        finally:
            await socket.close()

    async def plugin(self, **more: Any) -> PluginClient:
        """Open a session as session-manager-plugin does."""
        return await PluginClient.open(self.control.session, await self.session(), **more)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with control_endpoint(tmp_path / "control") as control:
        made = Stage(control)
        await made.begin()
        obeying = asyncio.create_task(made.obey())
        yield made
        obeying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await obeying
