"""A server of tasks on the loopback, and a test process that passes for a container."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import aiohttp
import pytest

from agent.engine.task_places import ContainerPlace, TaskPlace
from agent.task_endpoint.callers import Callers, Ends
from agent.task_endpoint.processes import ContainerProcesses
from agent.task_endpoint.server import TaskServer

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from agent.model.status import NetworkMode
    from agent.task_endpoint.contract import Route
    from agent.task_endpoint.throttle import RequestRate

HOST = "127.0.0.1"
TASK = "arn:aws:ecs:us-east-1:123456789012:task/default/t1"
OTHER = "arn:aws:ecs:us-east-1:123456789012:task/default/t2"
OURS, THEIRS = "a" * 64, "b" * 64
"""Engine ids of the containers."""


class Said(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    headers: dict[str, str]


class Asked:
    """A server, its callers, and a client."""

    def __init__(self, port: int, callers: Callers, session: aiohttp.ClientSession) -> None:
        self.port = port
        self.callers = callers
        self._session = session

    async def get(self, path: str, method: str = "GET", **more: object) -> Said:
        url = f"http://{HOST}:{self.port}"
        request = self._session.request(
            method,
            url + path,
            allow_redirects=False,
            **more,  # type: ignore[arg-type]
        )
        async with request as answer:
            return Said(answer.status, await answer.read(), dict(answer.headers))

    async def raw(self, sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(sent)
        await writer.drain()
        said = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return said


class Serve(Protocol):
    """Serves routes to the tasks at ``places``."""

    def __call__(
        self,
        routes: Iterable[Route],
        places: Iterable[TaskPlace] = (),
        *,
        rate: RequestRate | None = None,
        refused: Callable[..., object] | None = None,
        counts: Counter[tuple[str, int]] | None = None,
        superuser: int = 0,
    ) -> AbstractAsyncContextManager[Asked]:
        """Return the server while it is open."""


def place(arn: str, runtime_id: str, mode: NetworkMode, ipv4: str = "") -> TaskPlace:
    return TaskPlace(arn, mode, ipv4, (ContainerPlace("web", runtime_id),))


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    """A tree of control groups in which this process is a container's, and another one is not."""
    for runtime_id, pid in ((OURS, os.getpid()), (THEIRS, 1)):
        (tmp_path / "docker" / runtime_id).mkdir(parents=True)
        (tmp_path / "docker" / runtime_id / "cgroup.procs").write_text(f"{pid}\n")
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    return tmp_path


@pytest.fixture
def serve(groups: Path) -> Serve:
    """Serve from these control groups."""
    processes = ContainerProcesses.open(groups)

    @asynccontextmanager
    async def opened(
        routes: Iterable[Route],
        places: Iterable[TaskPlace] = (),
        *,
        rate: RequestRate | None = None,
        refused: Callable[..., object] | None = None,
        counts: Counter[tuple[str, int]] | None = None,
        superuser: int = os.getuid(),
    ) -> AsyncIterator[Asked]:
        bound = socket.create_server((HOST, 0))
        port = bound.getsockname()[1]
        callers = Callers(
            lambda: places,
            processes,
            Ends(HOST, (port,)),
            superuser=superuser,
        )
        async with AsyncExitStack() as closing:
            closing.callback(callers.close)
            server = await TaskServer.open(
                bound,
                routes=routes,
                callers=callers,
                rate=rate,
                refused=refused,
                counts=counts,
            )
            closing.push_async_callback(server.close)
            session = await closing.enter_async_context(aiohttp.ClientSession())
            yield Asked(port, callers, session)

    return opened
