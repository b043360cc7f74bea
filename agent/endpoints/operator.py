"""The operators' endpoint: a Unix socket, for ``ecs-agent status`` and so on (``operator_api``).

It works while control is down, because it uses only this agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.endpoints import unix_socket
from agent.endpoints.http import server
from agent.endpoints.operator_api import OperatorApi
from agent.errors import ConfigError
from agent.inotify import DirectoryWatch
from agent.model.views import RepairView

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from agent.endpoints.source import AgentSource
    from agent.listening.server import HttpServer

LOOK_EVERY_S = 60.0
"""How often the agent checks that the socket exists, although the kernel reports its removal."""

UNTOLD_LOOK_EVERY_S = 5.0
"""How often it checks without a watch of the kernel, and while the socket cannot be created."""

CALM_S = 0.1
"""Shortest time between two checks: repeated removals must not keep the agent busy."""

FOLLOWERS_LIMIT_S = 8.0
"""How long log followers and commands in containers may take to end."""

_REMEMBERED = 20

_log = structlog.get_logger(__name__)


class _ClaimedSocket(NamedTuple):
    """A socket that is ours, and by what its file is known from another one."""

    listener: socket.socket
    identity: tuple[int, int]


class OperatorSocket:
    """Serves one agent on one Unix socket, mode 0600. Open it with ``OperatorSocket.open``."""

    def __init__(
        self, path: Path, api: OperatorApi, server: HttpServer, claimed: _ClaimedSocket
    ) -> None:
        self._path = path
        self._api = api
        self._server = server
        self._claimed = claimed
        self._closed = False
        self.repairs: deque[RepairView] = deque(maxlen=_REMEMBERED)
        """The newest times that others removed the socket, oldest first."""
        self.problem = ""
        """Why the socket is missing; empty if it is present."""

    @classmethod
    async def open(cls, path: Path, agent: AgentSource) -> OperatorSocket:
        """Listen; replaces a socket that a dead agent left.

        Raises:
            ConfigError: another agent answers on the path, or the path cannot be used.
        """
        api = OperatorApi(agent)
        app = api.application()
        claimed = await _claim(path)
        served = await server(app)
        served.listen(claimed.listener, is_trusted=True)
        return cls(path, api, served, claimed)

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
        if self._closed:
            return
        old, self._claimed = self._claimed, await _claim(self._path)
        self._server.listen(self._claimed.listener, is_trusted=True)
        self._server.leave(old.listener)

    async def end_followers(self) -> None:
        """End log followers and commands in containers, while the container engine is at hand.

        Commands that ignore SIGHUP for ``FOLLOWERS_LIMIT_S`` are left to ``close``, which kills them.
        """
        self._api.end_followers()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FOLLOWERS_LIMIT_S):
                await self._api.followers_ended()

    async def close(self) -> None:
        """Stop listening, end log followers, and remove the socket; may be repeated."""
        if self._closed:
            return
        self._closed = True
        self._api.end_followers()
        await self._server.close()
        await asyncio.to_thread(unix_socket.release, self._path, self._claimed.identity)


async def _claim(path: Path) -> _ClaimedSocket:
    listener = await asyncio.to_thread(unix_socket.claim, path)
    return _ClaimedSocket(listener, await asyncio.to_thread(unix_socket.identity, path))


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
