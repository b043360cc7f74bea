"""Websockets of agents: who may open one, how fast it may send, and how it ends.

An agent can send anything, so frames have a size limit and are read no faster than a budget allows (the
rest waits in the agent's own kernel). Problems of all connections together cause one log line in ten
seconds. Sending has a deadline, so that an agent that does not read does not delay others.

A refused upgrade is answered in the format that Amazon's agent reads: ``{"<ErrorType>": "<text>"}``.

Tests: ``tests/unit/controlplane/agents/amazon/test_hostile.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from aiohttp import WSMsgType, web

from agent.controlplane.agents.bound_hosts import NotItsHost
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
    from agent.controlplane.agents.bindings import Shown
    from agent.controlplane.agents.parts import AgentParts
    from agent.controlplane.agents.tokens import Admission
    from agent.controlplane.records import InstanceRecord

SEND_S: Final = 30.0
CLOSE_S: Final = 1.0
ADMIT_S: Final = 30.0
FRAMES_PER_S: Final = 100.0
BURST_FRAMES: Final = 1000.0
_FRAME_UNIT_BYTES: Final = 16 * 1024
"""A frame counts once more for each unit of this size."""

NORMAL, GOING_AWAY, POLICY, TRY_AGAIN = 1000, 1001, 1008, 1013
"""Close codes: after the first two the agent reconnects at once, after the others it waits."""

_log = structlog.get_logger(__name__)


class UpgradeDenied(AgentError):
    """An upgrade that is refused."""

    def __init__(self, kind: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.kind = kind
        self.status = status

    def response(self) -> web.Response:
        """Return the response; its ``Date`` header shows the agent control's time."""
        return web.json_response({self.kind: str(self)}, status=self.status)


class FrameBudget:
    """Limits how many frames are read; a token bucket. Pure except for the clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = BURST_FRAMES
        self._at = clock()

    def take(self, size_bytes: int) -> float:
        """Count a frame of this size; return how many seconds to wait before reading the next."""
        now = self._clock()
        self._left = min(BURST_FRAMES, self._left + (now - self._at) * FRAMES_PER_S)
        self._at = now
        self._left -= 1 + size_bytes // _FRAME_UNIT_BYTES
        return max(0.0, -self._left / FRAMES_PER_S)


class Socket:
    """One connection of one instance."""

    def __init__(self, instance: InstanceRecord, *, frame_limit_bytes: int, shown: Shown) -> None:
        self.instance = instance
        """As last read; code that reads it again sets it."""
        self.shown = shown
        """What its upgrade showed of its host."""
        self.ended: tuple[int, str] | None = None
        """Close code and text, once the connection should end."""
        self.wake = asyncio.Event()
        """Set when the writing side has something to do."""
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
        """The return value for the HTTP handler."""
        return self._ws

    def end(self, code: int, text: str) -> None:
        """Ask the writing side to close the connection; the first reason counts."""
        self.ended = self.ended or (code, text)
        self.wake.set()

    def cut_off(self) -> None:
        """End the connection of an agent that is no longer admitted.

        Nothing more is read from it. An agent that reads nothing could block the writing side, so its
        connection is aborted soon.
        """
        self.end(GOING_AWAY, TOKEN_GONE)
        asyncio.get_running_loop().call_later(CLOSE_S, self.abort)

    async def send(self, frame: str) -> None:
        """Send a frame; an agent that does not read it in time loses its connection."""
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
                yield ""  # not a valid message, and counted as such
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
        """Read and write concurrently until either ends, then close properly.

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
            # Only close after the reader has ended: otherwise aiohttp would abort the connection, and
            # with it a close frame that the agent has not read yet.
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
        """Abort the connection."""
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
        """Register the connection of an instance; an older one is asked to end."""
        key = socket.instance.id
        before = self._sockets.get(key)
        if before is not None:
            # Use a code after which the agent waits: otherwise two agents with one state would
            # disconnect each other without a pause.
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
        """End all connections, and later ones at once."""
        self._closing = True
        for socket in self._sockets.values():
            socket.end(GOING_AWAY, "control stops")


class Admitted(NamedTuple):
    """The instance that may open a connection, and how it was admitted."""

    instance: InstanceRecord
    admission: Admission
    shown: Shown
    """What it showed of its host."""


class UpgradeCheck:
    """Admits or refuses upgrades."""

    def __init__(self, agent_parts: AgentParts, verifier: Verifier) -> None:
        self._agent_parts = agent_parts
        self._verifier = verifier

    async def admit(self, request: web.Request, *, cluster: str, instance: str) -> Admitted:
        """Return the instance that may open a connection, while its admission is valid.

        Args:
            request: the upgrade.
            cluster: name of the query parameter with the cluster.
            instance: name of the query parameter with the instance's ARN.

        Raises:
            UpgradeDenied: it is not admitted.
        """
        # Browsers send the origin of their page; agents never do.
        if "Origin" in request.headers or not web.WebSocketResponse().can_prepare(request).ok:
            raise UpgradeDenied("BadRequestException", "This is a websocket for agents.")
        admission = self._verify(request)
        prove(request)
        arn = request.query.get(instance, "")
        parsed = parse_arn(arn)
        if parsed is None or parsed.kind != "container-instance" or len(parsed.path) != 2:
            raise UpgradeDenied(
                "InvalidInstanceException", f"{instance} is not the ARN of a container instance."
            )
        self._check_cluster(request.query.get(cluster, ""), parsed.path[0])
        try:
            async with asyncio.timeout(ADMIT_S):
                found = await self._agent_parts.registry.current(parsed.id)
                if found.record.arn != arn:
                    raise InstanceUnknown(arn)
                shown = self._verifier.shown(admission, request.remote or "")
                found = await self._agent_parts.registry.hosts.check(found, shown)
                await self._agent_parts.registry.heard(found)
                await self._agent_parts.leases.renew(found.record)
        except NotItsHost as error:
            raise UpgradeDenied("AccessDeniedException", f"{error}.", 403) from None
        except InstanceUnknown:
            raise UpgradeDenied(
                "InactiveInstanceException", f"The container instance {arn} is not registered."
            ) from None
        except (StoreFailure, TimeoutError):
            raise UpgradeDenied("ServerException", "Control cannot do it now.", 503) from None
        return Admitted(found.record, admission, shown)

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
