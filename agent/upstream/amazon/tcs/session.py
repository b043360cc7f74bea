"""The telemetry session with Amazon ECS: metrics, health and the state of the container engine.

::

    offer(batch) ─► series ─┐ every 20 s                 ┌─► signed frame ─► socket
    TaskHost.facts ─────────┴─► messages ─► queues ──────┘        ▲
                                                          acks, heartbeats: it is alive

Accesses the network, and never blocks its callers: ``offer`` returns at once. Messages wait in
bounded queues while there is no session. Failures are retried with backoff for ever and logged now
and then; nothing here ends the agent or affects a task.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/tcs/handler`` and ``ecs-agent/tcs/client``.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog
from msgspec import Struct

from agent.aws.signing import wire_url
from agent.errors import AgentError, AwsFailure, AwsUnavailable, ControlUnavailable
from agent.model.liveness import WORK_S, Liveness
from agent.throttle import RepeatedWarning
from agent.upstream.amazon import frames
from agent.upstream.amazon.calls import SteppedBackoff
from agent.upstream.amazon.tcs import requests
from agent.upstream.amazon.tcs.queue import TelemetryQueue
from agent.upstream.amazon.tcs.requests import Round
from agent.upstream.amazon.tcs.runtime_health import RuntimeHealth
from agent.upstream.amazon.tcs.sets import HostSeries
from agent.upstream.amazon.websocket import SocketClosed
from agent.upstream.backoff import OutageBackoff
from agent.upstream.connection import WARN_EVERY_S

if TYPE_CHECKING:
    from yarl import URL

    from agent.aws.credentials import CredentialChain
    from agent.aws.signing import Signer
    from agent.model.metrics import MetricsBatch
    from agent.upstream.amazon.registration import Instance
    from agent.upstream.amazon.submit.sender import Registered
    from agent.upstream.amazon.websocket import Dialer, Socket
    from agent.upstream.protocol import TaskHost

_log = structlog.get_logger()

_SIGNS_OF_LIFE: Final = frozenset(
    {"HeartbeatMessage", "AckPublishMetric", "AckPublishHealth", "AckPublishInstanceStatus"}
)
_COMPLAINTS: Final = frozenset(
    {
        "StopTelemetrySessionMessage",
        "ServerException",
        "BadRequestException",
        "ResourceValidationException",
        "InvalidParameterException",
    }
)
_LASTING_S: Final = 10.0
"""A session that ended earlier than this does not count as one that worked."""
_KEYS_AGAIN_S: Final = (1.0, 60.0)
_SAID_BYTES: Final = 300
_DIAL_S: Final = 600.0
"""A dial has its own deadlines, whose sum is far below this."""


class TcsSettings(Struct, frozen=True, kw_only=True):
    """What the session says about the agent, and its time limits."""

    agent_version: str = ""
    agent_hash: str = ""
    docker_version: str = ""
    """Version of the container engine; left out of the URL while it is unknown."""
    metrics: bool = True
    """False with ``ECS_DISABLE_METRICS``: the session reports that nothing is running."""
    health: bool = True
    """False with ``ECS_DISABLE_DOCKER_HEALTH_CHECK``. Without both there is no session."""
    publish_s: float = 20.0
    sample_s: float = 10.0
    """Interval of the sampler's rounds."""
    cpus: int = 0
    """Number of cores that 100 % stands for; 0 for all of the host's."""
    alive_s: float = 60.0
    alive_jitter_s: float = 60.0
    """A session without ack or heartbeat is closed after ``alive_s`` plus up to this much."""
    backoff_first_s: float = 1.0
    backoff_limit_s: float = 60.0

    @property
    def samples(self) -> int:
        """Samples kept per container: those of four rounds, 80 at most."""
        return min(80, max(8, math.ceil(4 * self.publish_s / max(self.sample_s, 0.1))))


class Addresses(Protocol):
    """Provides the telemetry endpoint; see ``poll_endpoint.PollEndpoints``."""

    async def tcs(self, arn: str) -> str:
        """Return the base URL; raises ``AwsFailure`` or ``ControlUnavailable``."""


class _Ended(NamedTuple):
    """The result of one try to have a session."""

    text: str
    clean: bool = False
    lasted: bool = False
    asked_s: float = 0.0
    is_ours: bool = False
    """The server was our own control endpoint: see ``upstream.backoff.OutageBackoff``."""


class TcsSession:
    """One host's telemetry. Created and used on one event loop."""

    def __init__(
        self,
        settings: TcsSettings,
        dialer: Dialer,
        chain: CredentialChain,
        signer: Signer,
        registration: Registered,
        addresses: Addresses,
        host: TaskHost,
    ) -> None:
        self.liveness = Liveness("telemetry")
        """Of the loop that creates messages; nothing waits for the network loop."""
        self.error = ""
        """Why there is no session now; empty if there is one."""
        self._settings = settings
        self._dialer = dialer
        self._chain = chain
        self._signer = signer
        self._registration = registration
        self._addresses = addresses
        self._host = host
        self._figures = HostSeries(
            samples=settings.samples, cpus=settings.cpus or os.cpu_count() or 1
        )
        self._runtime = RuntimeHealth(lambda: host.engine_up, time.time)
        self._outgoing = TelemetryQueue()
        self._socket: Socket | None = None
        self._dropped = asyncio.Event()
        self._away = RepeatedWarning("telemetry session closed", every_s=WARN_EVERY_S)
        self._tell_open = True
        """Whether to log the next session: it is the first, or the end of one was logged."""
        self._complaint = RepeatedWarning("telemetry was refused", every_s=WARN_EVERY_S)
        self._overflow = RepeatedWarning(
            "too much telemetry waits: dropped the oldest", every_s=WARN_EVERY_S
        )
        self._failed = RepeatedWarning("telemetry not collected", every_s=WARN_EVERY_S)
        self._unsigned = RepeatedWarning("telemetry cannot be signed", every_s=WARN_EVERY_S)

    @property
    def connected(self) -> bool:
        """Whether there is a session now."""
        return self._socket is not None

    def offer(self, batch: MetricsBatch) -> None:
        """Take one round of the sampler; returns at once and never raises."""
        if not self._settings.metrics:
            return
        try:
            self._figures.take(batch, self._host.facts())
        except Exception as error:  # noqa: BLE001 - metrics must not disturb their producer
            self._failed.tell(error=f"{type(error).__name__}: {error}")

    def heartbeat(self) -> None:
        """Check the container engine, because the ACS session had a heartbeat. Returns at once."""
        self._runtime.judge()

    def drop(self) -> None:
        """Close the socket, because ACS says that this instance is not active. Returns at once."""
        self._dropped.set()

    async def run(self) -> None:
        """Publish until cancelled; returns at once if both metrics and health are disabled."""
        if not (self._settings.metrics or self._settings.health):
            self.liveness.rest("telemetry is disabled")
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish(), name="telemetry messages")
            group.create_task(self._stay_connected(), name="telemetry session")

    # -- what is said
    # -------------------------------------------------------------------------------

    async def _publish(self) -> None:
        """Create the messages of a round, first at once and then at a fixed interval."""
        loop = asyncio.get_running_loop()
        with self.liveness.resting("waiting for a registration"):
            instance = await self._registration.instance()
        due_s = loop.time()
        while True:
            try:
                self._collect(instance)
            except Exception as error:  # noqa: BLE001 - telemetry must not end the agent
                self._failed.tell(error=f"{type(error).__name__}: {error}")
            due_s = max(due_s + self._settings.publish_s, loop.time())
            with self.liveness.within(
                self._settings.publish_s + WORK_S, "waiting for the next round"
            ):
                await asyncio.sleep(due_s - loop.time())

    def _collect(self, instance: Instance) -> None:
        """Queue the current metrics, health and status."""

        def about() -> Round:
            return Round(instance.cluster, instance.arn, str(uuid.uuid4()), time.time())

        out = self._outgoing
        # Tasks of another control mean nothing to Amazon ECS, which might refuse the message.
        facts = [task for task in self._host.facts() if task.origin == instance.arn]
        running = any(c.running for task in facts for c in task.containers)
        lost = 0
        if self._settings.metrics and running:
            lost += out.put(out.metrics, requests.metrics(about(), self._figures.tell(facts)))
        else:
            lost += out.put(out.metrics, [requests.idle(about())])
        if self._settings.health:
            lost += out.put(out.health, requests.health(about(), facts))
        status = self._runtime.untold()
        if status is not None:
            out.put(out.status, [requests.instance_status(about(), status)])
        if lost:
            self._overflow.tell(rounds=lost, error=self.error)

    # -- the session
    # ----------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        backoff = SteppedBackoff(self._settings.backoff_first_s, self._settings.backoff_limit_s)
        outage = OutageBackoff()
        hasty = False
        while True:
            ended = await self._session()
            self.error = ended.text
            # At once after a normal end, but not repeatedly if sessions end immediately.
            at_once = ended.clean and (ended.lasted or not hasty) and not ended.is_ours
            if ended.lasted or at_once:
                backoff.reset()
            if ended.lasted:
                outage.over()
            hasty = not ended.lasted
            if not at_once:
                if self._away.tell(error=ended.text):
                    self._tell_open = True
                pauses = outage if ended.is_ours else backoff
                await asyncio.sleep(pauses.next_s(ended.asked_s))

    async def _session(self) -> _Ended:
        """Open one socket and use it until it ends; return what ended it."""
        loop = asyncio.get_running_loop()
        opened_s = math.inf
        instance = await self._registration.instance()
        try:
            async with asyncio.timeout(_DIAL_S) as dialing:
                url = self._url(await self._addresses.tcs(instance.arn), instance)
                async with self._dialer.dial(url) as socket:
                    dialing.reschedule(None)
                    opened_s = loop.time()
                    error: Exception = await self._use(socket, url)
        except (AwsFailure, ControlUnavailable, TimeoutError) as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - telemetry must not end the agent
            text = f"{type(failure).__name__}: {failure}"
            return _Ended(text, is_ours=instance.control_is_ours)
        return _Ended(
            text=str(error) or f"no session within {_DIAL_S:g} s",
            clean=isinstance(error, SocketClosed) and error.clean,
            lasted=loop.time() - opened_s >= _LASTING_S,
            asked_s=_asked_s(error),
            is_ours=instance.control_is_ours,
        )

    async def _use(self, socket: Socket, url: URL) -> AgentError:
        self._dropped.clear()
        self._socket = socket
        self.error = ""
        if self._tell_open:
            self._tell_open = False
            _log.info("telemetry session open", host=url.host)
        try:
            return await self._serve(socket, url)
        finally:
            self._socket = None

    def _url(self, base: str, instance: Instance) -> URL:
        params = {
            "agentHash": self._settings.agent_hash,
            "agentVersion": self._settings.agent_version,
            "cluster": instance.cluster,
            "containerInstance": instance.arn,
        }
        if self._settings.docker_version:
            params["dockerVersion"] = self._settings.docker_version
        return wire_url(f"{base.rstrip('/')}/ws", params)

    async def _serve(self, socket: Socket, url: URL) -> AgentError:
        """Read and write until the socket ends; return the reason."""
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._write(socket, url), name="telemetry frames"),
                group.create_task(self._close_when_dropped(socket), name="telemetry drop"),
            ]
            ended = await self._read(socket)
            for helper in helpers:
                helper.cancel()
        return ended

    async def _read(self, socket: Socket) -> AgentError:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(self._alive_until(loop.time())) as alive:
                while True:
                    frame = await socket.receive()
                    if frame.type in _SIGNS_OF_LIFE:
                        alive.reschedule(self._alive_until(loop.time()))
                    elif frame.type in _COMPLAINTS:
                        said = bytes(memoryview(frame.message)[:_SAID_BYTES])
                        told = frames.one_line(said.decode("utf-8", "replace"))
                        self._complaint.tell(type=frame.type, message=told)
                    else:
                        await socket.ignored(f"its type is unknown: {frame.type}")
        except SocketClosed as error:
            return error
        except TimeoutError:
            await socket.close("no sign of life from the server")
            return ControlUnavailable(
                "the telemetry server sent no ack and no heartbeat for too long"
            )

    def _alive_until(self, now_s: float) -> float:
        jitter_s = random.uniform(0.0, self._settings.alive_jitter_s)  # noqa: S311 - spreads load
        return now_s + self._settings.alive_s + jitter_s

    async def _write(self, socket: Socket, url: URL) -> None:
        """Sign and send what waits; a message stays in its queue until the socket accepts it."""
        again = SteppedBackoff(*_KEYS_AGAIN_S)
        while True:
            rounds, message = await self._outgoing.next()
            try:
                frame = self._signer.frame(await self._chain.keys(), url, message)
                again.reset()
                await socket.send(frame)
            except SocketClosed:
                return  # the reader gets the same error and reports it
            except AwsFailure as error:
                self._unsigned.tell(error=str(error))
                await asyncio.sleep(again.next_s())
            else:
                rounds.sent(message)
                await asyncio.sleep(0)  # signing takes time; spread many frames

    async def _close_when_dropped(self, socket: Socket) -> None:
        await self._dropped.wait()
        await socket.close("the instance is not active")


def _asked_s(error: Exception) -> float:
    if isinstance(error, (AwsUnavailable, ControlUnavailable)):
        return error.retry_after_s
    return 0.0
