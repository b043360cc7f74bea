"""Websockets of agents: who may open one, how fast it may talk, and how it ends.

An agent can send whatever it likes: frames have a limit, are read no faster than a budget allows (the
rest waits in the agent's own kernel), and trouble of all connections together is one log line in ten
seconds. Sending has a deadline, so that an agent that does not read holds nobody up.

A refused upgrade is answered as Amazon's agent reads it: ``{"<ErrorType>": "<text>"}``.

Tests: ``tests/unit/controlplane/agents/amazon/test_hostile.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from aiohttp import WSMsgType, web

from agent.controlplane.agents.longpoll.errors import InstanceUnknown
from agent.controlplane.agents.tokens import TOKEN_GONE
from agent.controlplane.api.ecs.naming import cluster_name
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.front.signatures import SignatureRefused, SignedRequest
from agent.controlplane.names import parse_arn
from agent.controlplane.store.contract import StoreFailure
from agent.errors import AgentError
from agent.listening.connection import prove

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from agent.controlplane.agents.amazon.signatures import Verifier
    from agent.controlplane.agents.parts import AgentParts
    from agent.controlplane.agents.tokens import Admission
    from agent.controlplane.records import InstanceRecord

SEND_S: Final = 30.0
CLOSE_S: Final = 1.0
ADMIT_S: Final = 30.0
FRAMES_PER_S: Final = 100.0
BURST_FRAMES: Final = 1000.0
_FRAME_UNIT_BYTES: Final = 16 * 1024
"""A frame counts once more for each of these."""
_LOG_EVERY_S: Final = 10.0

NORMAL, GOING_AWAY, POLICY, TRY_AGAIN = 1000, 1001, 1008, 1013
"""Close codes: after the first two the agent comes back at once, after the others it waits."""

_log = structlog.get_logger(__name__)


class UpgradeDenied(AgentError):
    """An upgrade that is not granted."""

    def __init__(self, kind: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.kind = kind
        self.status = status

    def response(self) -> web.Response:
        """Return the answer; its ``Date`` tells the agent what time it is here."""
        return web.json_response({self.kind: str(self)}, status=self.status)


class LogThrottle:
    """Logs what is wrong with agents, at most a line in ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at = float("-inf")
        self._unlogged = 0

    def note(self, event: str, **values: object) -> None:
        """Log, or count what is not logged."""
        now = self._clock()
        if now - self._logged_at < _LOG_EVERY_S:
            self._unlogged += 1
            return
        _log.warning(event, more_before=self._unlogged, **values)
        self._logged_at, self._unlogged = now, 0


class FrameBudget:
    """How many frames may be read; a token bucket. Pure but for the clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = BURST_FRAMES
        self._at = clock()

    def take(self, size_bytes: int) -> float:
        """Take a frame of this size; return for how many seconds the next must not be read."""
        now = self._clock()
        self._left = min(BURST_FRAMES, self._left + (now - self._at) * FRAMES_PER_S)
        self._at = now
        self._left -= 1 + size_bytes // _FRAME_UNIT_BYTES
        return max(0.0, -self._left / FRAMES_PER_S)


class Socket:
    """One connection of one instance."""

    def __init__(self, instance: InstanceRecord, *, frame_limit_bytes: int) -> None:
        self.instance = instance
        """As it was last read; whoever reads it anew sets it."""
        self.ended: tuple[int, str] | None = None
        """Close code and text once the connection is to end."""
        self.wake = asyncio.Event()
        """Set when the writing side has something to look at."""
        self._budget = FrameBudget()
        self._request: web.Request | None = None
        self._ws = web.WebSocketResponse(
            max_msg_size=frame_limit_bytes, compress=False, timeout=CLOSE_S, autoping=False
        )

    async def open(self, request: web.Request) -> None:
        """Answer the upgrade."""
        self._request = request
        await self._ws.prepare(request)

    @property
    def response(self) -> web.WebSocketResponse:
        """What the HTTP handler returns."""
        return self._ws

    def end(self, code: int, text: str) -> None:
        """Have the connection closed by its writing side; the first reason counts."""
        self.ended = self.ended or (code, text)
        self.wake.set()

    def cut_off(self) -> None:
        """End the connection of an agent that may not speak any more.

        Nothing that it says from now on is read. An agent that reads nothing could hold the writing
        side up: its connection is cut soon.
        """
        self.end(GOING_AWAY, TOKEN_GONE)
        asyncio.get_running_loop().call_later(CLOSE_S, self.abort)

    async def send(self, frame: str) -> None:
        """Send a frame; an agent that does not take it in time loses its connection."""
        try:
            async with asyncio.timeout(SEND_S):
                await self._ws.send_str(frame)
        except (TimeoutError, ConnectionError, RuntimeError):
            self.end(GOING_AWAY, "not taken in time")
            self.abort()

    async def frames(self) -> AsyncIterator[str]:
        """Yield text frames until the connection ends; raises nothing but cancellation."""
        async for message in self._ws:
            if message.type is WSMsgType.ERROR or self.ended is not None:
                return
            if message.type is WSMsgType.TEXT:
                yield message.data
            elif message.type is WSMsgType.BINARY:
                yield ""  # no message at all, and counted as such
            elif message.type is WSMsgType.PING:
                await self._pong(message.data)
            pause_s = self._budget.take(len(message.data))
            if pause_s:
                await asyncio.sleep(pause_s)

    async def _pong(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await self._ws.pong(data)
        except (TimeoutError, ConnectionError, RuntimeError):
            self.abort()

    async def run(
        self, read: Callable[[], Awaitable[None]], write: Callable[[], Awaitable[None]]
    ) -> None:
        """Read and write side by side until either ends, then close properly.

        Args:
            read: returns when the agent is gone.
            write: returns when ``ended`` is set.
        """

        async def reading() -> None:
            await read()
            self.end(GOING_AWAY, "the agent ended it")

        async with asyncio.TaskGroup() as group:
            task = group.create_task(reading())
            await write()
            # Not behind the reader's back: aiohttp would then cut the connection, and with it a
            # close frame that the agent has not read yet.
            task.cancel()
        await self._close()

    async def _close(self) -> None:
        code, text = self.ended or (GOING_AWAY, "")
        try:
            async with asyncio.timeout(CLOSE_S * 1.5):
                await self._ws.close(code=code, message=text.encode())
        except (TimeoutError, ConnectionError, RuntimeError):
            self.abort()

    def abort(self) -> None:
        """Cut the connection."""
        transport = self._request.transport if self._request is not None else None
        if transport is not None:
            transport.abort()


class NewestConnection:
    """At most one connection per instance: the newest wins."""

    def __init__(self) -> None:
        self._sockets: dict[str, Socket] = {}
        self._closing = False

    @contextlib.contextmanager
    def entered(self, socket: Socket) -> Iterator[None]:
        """Make a connection the instance's; the one before is told to end."""
        key = socket.instance.id
        before = self._sockets.get(key)
        if before is not None:
            # Not a code after which the agent comes back at once: two agents with one state would
            # throw each other out without a pause.
            before.end(POLICY, "another connection of this container instance was opened")
        self._sockets[key] = socket
        if self._closing:
            socket.end(GOING_AWAY, "control stops")
        try:
            yield
        finally:
            if self._sockets.get(key) is socket:
                del self._sockets[key]

    def close(self) -> None:
        """End all connections, and those that come later."""
        self._closing = True
        for socket in self._sockets.values():
            socket.end(GOING_AWAY, "control stops")


class Admitted(NamedTuple):
    """Who may open a connection, and what let it in."""

    instance: InstanceRecord
    admission: Admission


class UpgradeCheck:
    """Decides about upgrades."""

    def __init__(self, agent_parts: AgentParts, verifier: Verifier) -> None:
        self._agent_parts = agent_parts
        self._verifier = verifier

    async def admit(self, request: web.Request, *, cluster: str, instance: str) -> Admitted:
        """Return the instance that may open a connection, for as long as its admission holds.

        Args:
            request: the upgrade.
            cluster: name of the query's parameter with the cluster.
            instance: name of the one with the instance's ARN.

        Raises:
            Refused: it may not.
        """
        # A browser says where its page is from; no agent does.
        if "Origin" in request.headers or not web.WebSocketResponse().can_prepare(request).ok:
            raise UpgradeDenied("BadRequestException", "This is a websocket for agents.")
        admission = self._verify(request)
        prove(request)
        arn = request.query.get(instance, "")
        parsed = parse_arn(arn)
        if parsed is None or parsed.kind != "container-instance" or len(parsed.path) != 2:
            raise UpgradeDenied(
                "InvalidInstanceException", f"{instance} is no container instance's ARN."
            )
        self._check_cluster(request.query.get(cluster, ""), parsed.path[0])
        try:
            async with asyncio.timeout(ADMIT_S):
                found = await self._agent_parts.registry.current(parsed.id)
                if found.record.arn != arn:
                    raise InstanceUnknown(arn)
                await self._agent_parts.registry.heard(found)
                await self._agent_parts.leases.renew(found.record)
        except InstanceUnknown:
            raise UpgradeDenied(
                "InactiveInstanceException", f"The container instance {arn} is not registered."
            ) from None
        except (StoreFailure, TimeoutError):
            raise UpgradeDenied("ServerException", "Control cannot do it now.", 503) from None
        return Admitted(found.record, admission)

    def _verify(self, request: web.Request) -> Admission:
        try:
            return self._verifier.check(
                SignedRequest(request.method, request.raw_path, request.headers),
                request.remote or "",
            )
        except SignatureRefused as error:
            expired = "Signature expired" in str(error) or "not yet current" in str(error)
            kind = error.code if expired else "AccessDeniedException"
            raise UpgradeDenied(kind, str(error), 403) from None

    def _check_cluster(self, given: str, of_instance: str) -> None:
        if not given:
            return
        names = self._agent_parts.parts.names
        try:
            name = cluster_name(given)
        except InvalidParameterException as error:
            raise UpgradeDenied("InvalidClusterException", str(error)) from None
        if name != of_instance or (given.startswith("arn:") and given != names.cluster(name)):
            raise UpgradeDenied(
                "InvalidClusterException", "The container instance is of another cluster."
            )
