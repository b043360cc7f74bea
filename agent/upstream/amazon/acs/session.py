"""The ACS session: a connection on which Amazon ECS sends orders, reopened for ever.

::

    run() ─┬─ connect ─► read ─┬─ heartbeats: answered at once
           │     ▲             └─ orders: into the queue, in the order of arrival
           │     └── waits: none after a clean end, else growing; 1 h once ECS has deregistered us;
           │                for our own control endpoint those of ``upstream.backoff.OutageBackoff``
           └─ queue: one order at a time ─► durable ─► acknowledged

Accesses the network, and through its parts the store and the tasks. No problem with control ends
``run`` or affects a running task. Whatever the server sends, memory, log and rate are bounded:
frames by the socket, orders by the queue, log lines by ``RepeatedWarning`` and ``ConnectionStatus``.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/session`` (timers, order, what is answered).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct
from yarl import URL

from agent.aws.signing import wire_url
from agent.errors import AgentError, AwsUnavailable, ControlUnavailable, StateFailure
from agent.model.liveness import WORK_S, Liveness
from agent.throttle import RepeatedWarning
from agent.upstream.amazon import refusals
from agent.upstream.amazon.acs import messages, updates
from agent.upstream.amazon.acs.attachments import AttachHandler
from agent.upstream.amazon.acs.credentials import CredentialsHandler
from agent.upstream.amazon.acs.fields import UnusableMessage
from agent.upstream.amazon.acs.manifests import ManifestHandler
from agent.upstream.amazon.acs.message_queue import (
    BYTE_LIMIT,
    ORDER_LIMIT,
    AcsMessage,
    MessageQueue,
)
from agent.upstream.amazon.acs.payloads import PayloadHandler
from agent.upstream.amazon.calls import SteppedBackoff
from agent.upstream.amazon.frames import one_line
from agent.upstream.amazon.websocket import SocketClosed
from agent.upstream.backoff import OutageBackoff
from agent.upstream.connection import WARN_EVERY_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.state import StateStore
    from agent.upstream.amazon.acs.attachments import Expect
    from agent.upstream.amazon.frames import Frame
    from agent.upstream.amazon.registration import Instance
    from agent.upstream.amazon.websocket import Dialer, Socket
    from agent.upstream.connection import ConnectionStatus
    from agent.upstream.protocol import CredentialStore, TakeAssignments, TaskHost

_log = structlog.get_logger()

INACTIVE: Final = "InactiveInstanceException"
"""Name of the error after which this container instance is deregistered."""
TAKE_LIMIT_S: Final = 180.0
"""Time limit for carrying out an order, which only has to be written to disk."""
DIAL_LIMIT_S: Final = 300.0
"""Time limit of one try to connect, including fetching keys and signing a second time."""


class AcsSettings(Struct, frozen=True, kw_only=True):
    """What the agent says about itself, and the session's time limits."""

    agent_version: str
    agent_hash: str
    docker_version: str = ""
    """Version of the container engine; empty if unknown."""
    silence_s: float = 60.0
    silence_jitter_s: float = 60.0
    """A connection without a known message is closed after ``silence_s`` plus up to this much."""
    steady_s: float = 60.0
    steady_jitter_s: float = 60.0
    """A connection that lasts ``steady_s`` plus up to this much resets the backoff."""
    backoff_first_s: float = 0.25
    backoff_limit_s: float = 120.0
    inactive_wait_s: float = 3600.0
    hasty_s: float = 10.0
    """If a server repeatedly closes connections normally before this age, reconnecting is
    delayed."""
    hasty_first_s: float = 0.25
    hasty_limit_s: float = 10.0
    waiting_orders: int = ORDER_LIMIT
    waiting_bytes: int = BYTE_LIMIT


def _nothing() -> None:
    """Default for an unused callback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcsParts:
    """The parts that a session uses."""

    dialer: Dialer
    instance: Callable[[], Awaitable[Instance]]
    """Waits for the registration, then returns the instance."""
    endpoint: Callable[[str], Awaitable[str]]
    """Returns the base URL of the order channel of an instance (``PollEndpoints.acs``)."""
    link: ConnectionStatus
    take: TakeAssignments
    host: TaskHost
    keep: CredentialStore
    expect: Expect
    """Expects an attachment; durable when it returns."""
    store: StateStore
    on_inactive: Callable[[], None] = _nothing
    """Called when ECS says that this instance was deregistered; must not block."""
    on_heartbeat: Callable[[], None] = _nothing
    """Called at each heartbeat of the server; must not block."""
    clock: Callable[[], float] = time.time
    """Unix time."""


class _Rhythm(Struct, kw_only=True):
    """How long to wait, depending on what happened before."""

    errors: SteppedBackoff
    outage: OutageBackoff
    """Used instead of ``errors`` for our own control endpoint."""
    hasty: SteppedBackoff
    hasty_ends: int = 0
    """Connections in a row that ended normally, but too early."""
    began: float = 0.0
    """When the last connection was opened, in the event loop's time."""

    def steady(self) -> None:
        """Reset the waits, because a connection has lasted."""
        self.errors.reset()
        self.outage.over()


class AcsSession:
    """One host's channel for orders. Create it on the event loop that runs it."""

    def __init__(self, settings: AcsSettings, parts: AcsParts) -> None:
        self.liveness = Liveness("ACS session")
        self.trouble = ""
        """Why the last order could not be taken; empty if it was."""
        self._settings = settings
        self._parts = parts
        self._send_credentials = True
        self._is_ours = False
        """The server is our own control endpoint."""
        self._rhythm = _Rhythm(
            errors=SteppedBackoff(
                settings.backoff_first_s, settings.backoff_limit_s, jitter=0.2, factor=1.5
            ),
            outage=OutageBackoff(),
            hasty=SteppedBackoff(settings.hasty_first_s, settings.hasty_limit_s),
        )
        self._queue = MessageQueue(
            self._carry_out,
            work_limit_s=TAKE_LIMIT_S + parts.dialer.limits.write_s,
            orders=settings.waiting_orders,
            size=settings.waiting_bytes,
        )
        self.livenesses: tuple[Liveness, ...] = (self.liveness, self._queue.liveness)
        self._manifests = ManifestHandler(parts.store, parts.host, parts.take)
        attaching = AttachHandler(parts.expect)
        payloads = PayloadHandler(parts.take, parts.host, parts.keep, self._manifests)
        self._handlers: dict[str, Callable[[AcsMessage], Awaitable[None]]] = {
            messages.PAYLOAD: payloads.handle,
            messages.CREDENTIALS: CredentialsHandler(parts.host, parts.keep).handle,
            messages.TASK_INTERFACES: attaching.task_interfaces,
            messages.INSTANCE_INTERFACES: attaching.instance_interfaces,
            messages.CONFIRM_ATTACHMENT: attaching.volume,
            messages.MANIFEST: self._manifests.manifest,
            messages.STOP_VERIFIED: self._manifests.verified,
            messages.STAGE_UPDATE: updates.refuse,
            messages.PERFORM_UPDATE: updates.refuse,
        }
        self._unusable = RepeatedWarning("orders that cannot be acted on", every_s=WARN_EVERY_S)
        self._untaken = RepeatedWarning(
            "orders could not be taken; they will be sent again", every_s=WARN_EVERY_S
        )
        self._told = RepeatedWarning("Amazon ECS says", every_s=WARN_EVERY_S)
        self._broken = RepeatedWarning(
            "unexpected error in the connection to Amazon ECS", every_s=WARN_EVERY_S
        )

    async def run(self) -> None:
        """Connect, take orders and reconnect, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._queue.run(), name="acs-orders")
                while True:
                    wait_s = await self._connection()
                    if wait_s and not self._parts.link.connected:
                        self._parts.link.try_in(wait_s)
                    with self.liveness.within(wait_s + WORK_S, "waiting before the next try"):
                        await asyncio.sleep(wait_s)
        finally:
            self.liveness.rest()

    # --- connections --------------------------------------------------------------------------

    async def _connection(self) -> float:
        """Run one connection from start to end; return how long to wait, in seconds."""
        try:
            with self.liveness.resting("waiting for a registration"):
                instance = await self._parts.instance()
            self._is_ours = instance.control_is_ours
            await self._converse(instance)
        except SocketClosed as error:
            if error.clean and INACTIVE not in str(error):
                return self._after_clean_end(error)
            return self._after(error)
        except AgentError as error:
            return self._after(error)
        except Exception as error:  # noqa: BLE001 - no message may end the agent
            told = f"{type(error).__name__}: {error}"
            self._broken.tell(error=told, at=_trace(error))
            return self._after(ControlUnavailable(told))
        return 0.0

    def _after(self, error: AgentError) -> float:
        if INACTIVE in str(error):
            self._parts.link.down(
                ControlUnavailable(
                    f"Amazon ECS has deregistered this container instance ({error}). Running tasks "
                    f"continue; to register again, {refusals.start_anew(self._parts.store.path)}"
                )
            )
            self._parts.on_inactive()
            return self._settings.inactive_wait_s
        self._parts.link.down(error)
        asked_s = 0.0
        if isinstance(error, ControlUnavailable | AwsUnavailable):
            asked_s = error.retry_after_s
        if self._is_ours:
            return self._rhythm.outage.next_s(asked_s)
        return self._rhythm.errors.next_s(asked_s)

    def _after_clean_end(self, error: SocketClosed) -> float:
        """Reconnect at once, unless the server only closes connections."""
        rhythm = self._rhythm
        lasted_s = asyncio.get_running_loop().time() - rhythm.began
        rhythm.errors.reset()
        if lasted_s >= self._settings.hasty_s:
            rhythm.hasty_ends = 0
            rhythm.hasty.reset()
            # When our own control endpoint stops, all hosts lose their connection at once.
            return rhythm.outage.next_s() if self._is_ours else 0.0
        rhythm.hasty_ends += 1
        if rhythm.hasty_ends == 1:
            return 0.0
        self._parts.link.down(error)
        return rhythm.outage.next_s() if self._is_ours else rhythm.hasty.next_s()

    async def _converse(self, instance: Instance) -> None:
        """Connect and read until the connection ends, which always raises an error."""
        settings = self._settings
        with self.liveness.within(DIAL_LIMIT_S + WORK_S, "connecting"):
            await self._manifests.begin()
        async with contextlib.AsyncExitStack() as stack:
            with self.liveness.within(DIAL_LIMIT_S + WORK_S, "connecting"):
                socket = await self._dial(instance, stack)
            self._send_credentials = False
            self._parts.link.up()
            steady_s = settings.steady_s + random.uniform(0.0, settings.steady_jitter_s)  # noqa: S311
            loop = asyncio.get_running_loop()
            self._rhythm.began = loop.time()
            steady = loop.call_later(steady_s, self._rhythm.steady)
            stack.callback(steady.cancel)
            await self._read(socket, instance)

    async def _dial(self, instance: Instance, stack: contextlib.AsyncExitStack) -> Socket:
        try:
            async with asyncio.timeout(DIAL_LIMIT_S):
                base = await self._parts.endpoint(instance.arn)
                url = self._url(base, instance)
                return await stack.enter_async_context(self._parts.dialer.dial(url))
        except TimeoutError:
            raise ControlUnavailable(f"no connection within {DIAL_LIMIT_S:g} s") from None

    def _url(self, base: str, instance: Instance) -> URL:
        settings = self._settings
        params = {
            "agentHash": settings.agent_hash,
            "agentVersion": settings.agent_version,
            "clusterArn": instance.cluster,
            "containerInstanceArn": instance.arn,
            "protocolVersion": "2",
            "sendCredentials": "true" if self._send_credentials else "false",
            "seqNum": "1",
        }
        if settings.docker_version:
            params["dockerVersion"] = f"DockerVersion: {settings.docker_version}"
        try:
            return wire_url(URL(base) / "ws", params)
        except ValueError as error:
            raise ControlUnavailable(f"the endpoint {base[:200]!r} is not a URL: {error}") from None

    # --- messages -----------------------------------------------------------------------------

    async def _read(self, socket: Socket, instance: Instance) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        silence_s = 0.0
        try:
            async with asyncio.timeout(None) as silence:
                while True:
                    jitter_s = random.uniform(0.0, settings.silence_jitter_s)  # noqa: S311
                    silence_s = settings.silence_s + jitter_s
                    silence.reschedule(loop.time() + silence_s)
                    self.liveness.liveness(silence_s + WORK_S, "waiting for orders")
                    frame = await self._understood(socket)
                    await self._dispatch(frame, socket, instance)
        except TimeoutError:
            raise ControlUnavailable(f"no message for {silence_s:.0f} s") from None

    async def _understood(self, socket: Socket) -> Frame:
        """Return the next message of a known type; others do not count as a sign of life."""
        while True:
            frame = await socket.receive()
            kind = frame.type
            if kind == messages.HEARTBEAT or kind in self._handlers or kind in messages.TOLD:
                return frame
            await socket.ignored(f"its type {kind!r} is unknown")

    async def _dispatch(self, frame: Frame, socket: Socket, instance: Instance) -> None:
        if frame.type == messages.HEARTBEAT:
            await self._heartbeat(frame, socket)
        elif frame.type in messages.TOLD:
            self._told.tell(type=frame.type, text=one_line(messages.told(frame.message)))
        else:
            at = self._parts.clock()
            self._queue.put(AcsMessage(frame.type, frame.message, at, instance, socket.send))

    async def _heartbeat(self, frame: Frame, socket: Socket) -> None:
        self._parts.on_heartbeat()
        try:
            message_id = messages.heartbeat(frame.message)
        except UnusableMessage as error:
            self._unusable.tell(type=frame.type, why=str(error))
            return
        await socket.send(messages.heartbeat_ack(message_id))

    async def _carry_out(self, order: AcsMessage) -> None:
        """Carry out one order; never raises. Orders without an answer are sent again."""
        try:
            await self._handlers[order.type](order)
        except UnusableMessage as error:
            self._unusable.tell(type=order.type, why=str(error))
        except SocketClosed:
            # The order was carried out; it comes again on the next connection and changes nothing.
            self.trouble = ""
        except StateFailure as error:
            self.trouble = f"orders could not be taken: {error}"
            self._untaken.tell(type=order.type, error=str(error))
        except Exception as error:  # noqa: BLE001 - no order may end the agent
            told = f"{type(error).__name__}: {error}"
            self.trouble = f"orders could not be taken: {told}"
            self._untaken.tell(type=order.type, error=told, at=_trace(error))
        else:
            self.trouble = ""


def _trace(error: BaseException) -> list[str]:
    """Return where an error came from, innermost last. Reads no source files: that would block."""
    return [
        f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
