"""A host of a scripted control whose commands are real, on terminals of this machine instead of a container's."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from typing import TYPE_CHECKING, Any, cast

from agent.endpoints.exec_sessions import ExecSessions
from agent.model.exec import STDOUT
from agent.model.views import ContainerView, TaskView
from agent.runtime.protocol import ExecResult
from tests.support.control_endpoint import CAPABILITIES, Endpoint, ScriptedAgent, a_report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agent.endpoints.source import AgentSource
    from agent.model.exec import ExecCommand, TerminalSize

ATTRIBUTE = "ecs-host-agent.execute-command"


class PtyCommand:
    """A command on a terminal; implements ``runtime.protocol.ExecSession``."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self._process = process
        self._readable = asyncio.Event()

    @classmethod
    async def start(cls, words: Sequence[str], size: TerminalSize) -> PtyCommand:
        """Start a command, as in a container: with few variables."""
        master, slave = os.openpty()
        try:
            _set_size(master, size)
            process = await asyncio.create_subprocess_exec(
                "setsid",
                "--ctty",
                *words,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={"TERM": "xterm", "PATH": os.environ["PATH"], "PS1": "$ ", "LC_ALL": "C.UTF-8"},
            )
        finally:
            os.close(slave)
        os.set_blocking(master, False)
        return cls(master, process)

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next output; None at its end."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                piece = os.read(self._master, 65536)
            except BlockingIOError:
                self._readable.clear()
                loop.add_reader(self._master, self._readable.set)
                try:
                    await self._readable.wait()
                finally:
                    loop.remove_reader(self._master)
            except OSError:  # how a terminal says that nobody has it open any more
                return None
            else:
                return (STDOUT, piece) if piece else None

    async def write(self, data: bytes) -> None:
        """Pass input on."""
        while data:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.01)

    async def end_input(self) -> None:
        """Do nothing: a terminal has no such end."""

    async def resize(self, size: TerminalSize) -> None:
        """Give the terminal a size."""
        _set_size(self._master, size)

    async def result(self) -> ExecResult:
        """Return how it ended."""
        return ExecResult(exit_code=await self._process.wait(), started=True)

    async def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGHUP)
        await self._process.wait()
        os.close(self._master)


def _set_size(master: int, size: TerminalSize) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


class ShellHost:
    """Implements what ``ExecSessions`` needs of an agent."""

    def __init__(self) -> None:
        self.views: list[TaskView] = []
        self.commands: list[PtyCommand] = []

    def task_views(self) -> list[TaskView]:
        """The tasks here."""
        return self.views

    async def start_exec(self, _: str, command: ExecCommand) -> PtyCommand:
        """Start a command on a terminal."""
        assert command.terminal is not None
        made = await PtyCommand.start(command.words, command.terminal)
        self.commands.append(made)
        return made


@contextlib.asynccontextmanager
async def shell_host(
    endpoint: Endpoint, url: str, definition: str, token: str
) -> AsyncIterator[str]:
    """Register a host, run a task of a definition on it in which commands may be run, and yield its ARN."""
    agent = ScriptedAgent(
        endpoint,
        token=token,
        attributes=CAPABILITIES
        | {ATTRIBUTE: "", "com.amazonaws.ecs.capability.logging-driver.awslogs": ""},
    )
    await agent.register()
    answer = await endpoint.call("RunTask", taskDefinition=definition, enableExecuteCommand=True)
    arn: str = answer["tasks"][0]["taskArn"]
    await agent.poll()
    await agent.report(a_report(arn, "RUNNING"))
    host = ShellHost()
    container = ContainerView(
        name="main", image="i", status="RUNNING", desired="RUNNING", runtime_id="r1"
    )
    host.views = [
        TaskView(
            arn=arn,
            id=arn.rsplit("/", 1)[1],
            family="web",
            revision="1",
            status="RUNNING",
            desired="RUNNING",
            network_mode="none",
            containers=[container],
            waits=[],
        )
    ]
    working = asyncio.create_task(_obey(agent, endpoint, url, host))
    try:
        yield arn
    finally:
        working.cancel()
        await asyncio.wait([working])


async def _obey(agent: ScriptedAgent, endpoint: Endpoint, url: str, host: ShellHost) -> None:
    sessions = ExecSessions(cast("AgentSource", host))

    async def carry(order: Any) -> None:
        place = f"{url}/v1/instances/{agent.id}/commands/{order.session_id}"
        async with endpoint.session.ws_connect(place, headers=agent.shown) as socket:
            await sessions.carry(socket, order.task_arn)

    async with asyncio.TaskGroup() as group:
        while True:
            answer = await agent.poll(wait_s=5)
            for order in answer.commands if answer is not None else ():
                group.create_task(carry(order))
