"""ACS: orders to an agent over a websocket, from the same assignments as the long poll's.

Level-triggered: a connection begins with all orders that the agent is not known to have, stops first,
then a manifest of all tasks of the instance. After that, each wake-up of the instance sends what has
changed. Orders are sent again until they are acknowledged.

The writing side sends everything; the reading side records what arrives and wakes it. One watch of the
store serves all connections (``agents.wakeups``), so that an idle connection only costs a timer.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/session``, ``agent/acs/session``.

Tests: ``tests/unit/controlplane/agents/amazon/test_orders.py``.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from msgspec import Struct, field
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.agents.amazon import role_messages, shapes
from agent.controlplane.agents.amazon.deliveries import Deliveries, Taken
from agent.controlplane.agents.amazon.items import Item, Items, fits, is_ours
from agent.controlplane.agents.amazon.manifests import Manifests
from agent.controlplane.agents.amazon.role_messages import RoleMessages, TakenRoles
from agent.controlplane.agents.amazon.sockets import (
    GOING_AWAY,
    NORMAL,
    TRY_AGAIN,
    NewestConnection,
    Socket,
)
from agent.controlplane.agents.longpoll.errors import InstanceUnknown
from agent.controlplane.recent import Recent
from agent.controlplane.records import InstanceRecord
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from agent.controlplane.agents.amazon.sockets import Admitted
    from agent.controlplane.agents.assignments import AssignedTask
    from agent.controlplane.agents.parts import AgentParts
    from agent.controlplane.store.contract import KeyValue
    from agent.throttle import LogThrottle

FRAME_LIMIT_BYTES: Final = 1024 * 1024
"""The largest frame that an agent needs is a list of stop candidates."""
HEARTBEAT_S: Final = 30.0
"""The agent drops a connection after a minute without a message."""
MISSED_BEATS: Final = 3
_PATIENT_BEATS: Final = 20
"""For agents with a protocol version in which missing acknowledgments mean nothing."""
_VERSION_LIMIT: Final = 64

_log = structlog.get_logger(__name__)


class _Held(Struct):
    """The orders that an instance's agent has taken, for as long as its registration lasts."""

    generation: int
    taken: Taken = field(default_factory=dict)
    roles: TakenRoles = field(default_factory=dict)


class Acs:
    """Serves ACS; one per control endpoint, for one event loop."""

    def __init__(self, agent_parts: AgentParts, troubles: LogThrottle) -> None:
        self.agent_parts = agent_parts
        self.troubles = troubles
        self.manifests = Manifests(agent_parts.parts, agent_parts.history)
        self.items = Items(agent_parts)
        self._newest = NewestConnection()
        self._held: Recent[str, _Held] = Recent()

    def close(self) -> None:
        """End all connections; the server stops."""
        self._newest.close()

    async def serve(self, request: web.Request, admitted: Admitted) -> web.StreamResponse:
        """Serve one connection until it ends, or its agent is no longer admitted."""
        instance = await self._noted(admitted.instance, request)
        socket = Socket(instance, frame_limit_bytes=FRAME_LIMIT_BYTES, shown=admitted.shown)
        await socket.open(request)
        is_new_process = request.query.get("sendCredentials") == "true"
        session = _Session(
            self,
            socket,
            self._taken(instance, is_new_process=is_new_process),
            missed_beats=(
                MISSED_BEATS if request.query.get("protocolVersion") == "2" else _PATIENT_BEATS
            ),
        )
        watching = self.agent_parts.agent_tokens.watching(admitted.admission, socket.cut_off)
        with self._newest.entered(socket), watching:
            await session.run()
            _log.debug("agent disconnected", instance=instance.arn, why=str(socket.ended))
        return socket.response

    def forget(self, instance_id: str) -> None:
        """Forget the taken orders of an instance that is gone."""
        self._held.pop(instance_id, None)

    def _taken(self, instance: InstanceRecord, *, is_new_process: bool) -> _Held:
        """Return what the agent is known to have taken.

        Our agents accept anything twice, and get everything again after a restart, because they may
        have lost their records. Every new process has lost its credentials.
        """
        held = self._held.get(instance.id)
        if held is None or held.generation != instance.generation:
            held = self._held[instance.id] = _Held(instance.generation)
            # Log it once per registration: an agent reconnects every half hour, or all the time.
            _log.info("agent connected", instance=instance.arn, agent=instance.agent_version)
        if is_new_process:
            held.roles.clear()
        if is_new_process and is_ours(instance):
            held.taken.clear()
        return held

    async def _noted(self, instance: InstanceRecord, request: web.Request) -> InstanceRecord:
        """Store the versions that an agent only sends here."""
        agent = request.query.get("agentVersion", "")[:_VERSION_LIMIT]
        build = request.query.get("agentHash", "")[:_VERSION_LIMIT]
        engine = request.query.get("dockerVersion", "").rpartition(": ")[2][:_VERSION_LIMIT]

        def note(old: InstanceRecord) -> InstanceRecord:
            resources = replace(
                old.resources, engine_version=engine or old.resources.engine_version
            )
            new = replace(
                old,
                agent_version=agent or old.agent_version,
                agent_hash=build or old.agent_hash,
                resources=resources,
            )
            return old if new == old else replace(new, version=old.version + 1)

        key = records.instance_key(instance.cluster, instance.id)
        try:
            changed = await access.change(self.agent_parts.parts.store, InstanceRecord, key, note)
        except StoreFailure:
            return instance
        return changed or instance


class _Session:
    """One connection."""

    def __init__(self, acs: Acs, socket: Socket, held: _Held, *, missed_beats: int) -> None:
        self._acs = acs
        self._agent_parts = acs.agent_parts
        self._socket = socket
        self._deliveries = Deliveries(held.taken)
        self._roles = RoleMessages(held.roles)
        self._missed_beats = missed_beats
        self._loop = asyncio.get_running_loop()
        self._beat_s = min(HEARTBEAT_S, self._agent_parts.leases.ttl_s / 2)
        # Spread heartbeats, so that not all agents get one at the same time after a restart.
        self._next_beat = self._loop.time() + self._beat_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._unanswered = 0
        self._has_manifest = False
        self._manifest_id = ""
        """Id of the manifest that the agent has not answered yet."""
        self._renewed_at = self._loop.time()

    async def run(self) -> None:
        """Send and read until either side ends it."""
        await self._socket.run(self._read, self._write)

    async def _write(self) -> None:
        socket = self._socket
        with self._agent_parts.wakeups.taken(socket.instance.id, socket.wake):
            socket.wake.set()
            while socket.ended is None:
                now = self._loop.time()
                if socket.wake.is_set() or self._next_at <= now:
                    socket.wake.clear()
                    await self._deliver_safely()
                if self._next_beat <= now:
                    await self._beat(now)
                await self._wait()

    @property
    def _next_at(self) -> float:
        """When something is sent again."""
        return min(self._deliveries.next_at, self._roles.next_at)

    async def _wait(self) -> None:
        until = min(self._next_beat, self._next_at)
        try:
            async with asyncio.timeout_at(until):
                await self._socket.wake.wait()
        except TimeoutError:
            return

    async def _beat(self, now: float) -> None:
        if self._unanswered >= self._missed_beats:
            self._socket.end(GOING_AWAY, "heartbeats were not acknowledged")
            return
        self._unanswered += 1
        self._next_beat = now + self._beat_s
        message = {"healthy": True, "messageId": str(uuid.uuid4())}
        await self._socket.send(shapes.write("HeartbeatMessage", message))

    async def _deliver_safely(self) -> None:
        try:
            await self._deliver()
        except InstanceUnknown:
            # The agent reconnects at once, and then gets the error in a form that it understands.
            self._acs.forget(self._socket.instance.id)
            self._socket.end(NORMAL, "the container instance is not registered")
        except StoreFailure as error:
            self._acs.troubles.note("orders cannot be read", error=str(error))
            self._socket.end(TRY_AGAIN, "control cannot do it now")

    async def _deliver(self) -> None:
        instance_id = self._socket.instance.id
        page = await self._agent_parts.parts.store.range(records.assignments_prefix(instance_id))
        found = await self._agent_parts.registry.current(instance_id)
        self._socket.instance = self._agent_parts.registry.hosts.still(found, self._socket.shown)
        now = self._loop.time()
        ids = {records.last_element(kv.key): kv for kv in page.items}
        self._deliveries.keep_only(ids.keys())
        self._roles.keep_only(ids.keys())
        due = {
            task_id: kv
            for task_id, kv in ids.items()
            if self._deliveries.is_due(task_id, kv.mod_revision, now)
        }
        waits = False
        if due:
            orders, _ = await self._agent_parts.orders.read(list(due.values()))
            for unreadable in due.keys() - {order.task.id for order in orders}:
                self._deliveries.forget(unreadable)
            waits = await self._send_orders([o for o in orders if self._acs.items.is_complete(o)])
        await self._send_credentials()
        if not self._has_manifest and not waits:
            await self._send_manifest(page.items)

    async def _send_credentials(self) -> None:
        """Send credentials that are newer than what the agent has, of tasks that it has."""
        issued = self._agent_parts.parts.roles.newer(self._socket.instance.id, 0)
        of_taken = [one for one in issued if self._deliveries.has_taken(one.task_id)]
        now = self._loop.time()
        for one in self._roles.due(of_taken, now):
            message_id = str(uuid.uuid4())
            self._roles.sent(message_id, one, now)
            message = role_messages.message(one, message_id, self._cluster_arn)
            await self._socket.send(shapes.write("IAMRoleCredentialsMessage", message))

    async def _send_orders(self, orders: list[AssignedTask]) -> bool:
        """Send the due orders; return whether some of them must wait for acknowledgments.

        Stops and repeated orders never wait: otherwise orders that an agent cannot accept would block
        those that stop tasks.
        """
        waits = False
        batch: list[Item] = []
        for order in orders:
            task_id, revision = order.task.id, order.row.mod_revision
            is_again = self._deliveries.is_again(task_id, revision)
            may_wait = not is_again and order.assignment.desired_status != "STOPPED"
            if may_wait and not batch and self._deliveries.is_full:
                waits = True
                continue
            item = await self._acs.items.item(order, self._socket.instance)
            if item is None:
                self._deliveries.held(task_id, revision)
                continue
            if is_again:
                await self._send_payload([item])
                continue
            if batch and not fits(batch, item):
                await self._send_payload(batch)
                batch = []
            if may_wait and not batch and self._deliveries.is_full:
                waits = True
                continue
            batch.append(item)
        if batch:
            await self._send_payload(batch)
        return waits

    async def _send_payload(self, batch: list[Item]) -> None:
        message_id = str(uuid.uuid4())
        revisions = [(item.order.task.id, item.order.row.mod_revision) for item in batch]
        self._deliveries.sent(message_id, revisions, self._loop.time())
        in_payload = [one for item in batch for one in item.issued]
        self._roles.sent_in_payload(message_id, in_payload)
        message = {
            **self._addressed(message_id),
            # Below the timeline of any manifest, which counts milliseconds.
            "seqNum": max(revision for _, revision in revisions),
            "tasks": [msgspec.Raw(item.encoded) for item in batch],
        }
        await self._socket.send(shapes.write("PayloadMessage", message))

    async def _send_manifest(self, rows: Iterable[KeyValue]) -> None:
        instance = self._socket.instance
        message_id = str(uuid.uuid4())
        tasks = self._acs.manifests.wanted(instance, rows)
        timeline = await self._acs.manifests.next_timeline(instance)
        self._has_manifest, self._manifest_id = True, message_id
        message = {
            **self._addressed(message_id),
            "timeline": timeline,
            "tasks": shapes.identifiers(tasks, self._cluster_arn),
        }
        await self._socket.send(shapes.write("TaskManifestMessage", message))

    @property
    def _cluster_arn(self) -> str:
        return self._agent_parts.parts.names.cluster(self._socket.instance.cluster)

    def _addressed(self, message_id: str) -> dict[str, Any]:
        return {
            "clusterArn": self._cluster_arn,
            "containerInstanceArn": self._socket.instance.arn,
            "generatedAt": int(self._agent_parts.parts.clock() * 1000),
            "messageId": message_id,
        }

    async def _read(self) -> None:
        async for frame in self._socket.frames():
            try:
                kind, message = shapes.read(frame)
                await self._take(kind, message)
            except shapes.FrameError as error:
                self._trouble(str(error))
            except StoreFailure as error:
                self._trouble(f"control cannot do it now: {error}")

    def _trouble(self, why: str) -> None:
        self._acs.troubles.note(
            "message of an agent not taken", instance=self._socket.instance.arn, why=why
        )

    async def _take(self, kind: str, message: Any) -> None:
        match kind:
            case "AckRequest":
                self._check_sender(message)
                self._roles.acknowledged(message.message_id)
                if self._deliveries.acknowledged(message.message_id):
                    self._socket.wake.set()
            case "NackRequest":
                self._check_sender(message)
                self._trouble(f"order refused: {message.reason[:300]}")
            case "TaskStopVerificationMessage":
                await self._verify_stops(message)
            case "IAMRoleCredentialsAckRequest":
                self._roles.acknowledged(message.message_id)
            case "HeartbeatAckRequest":
                pass
            case _:
                raise shapes.FrameError(f"{kind} is not a message of ACS")
        self._unanswered = 0
        await self._renew()

    def _check_sender(self, message: shapes.Ack) -> None:
        if message.container_instance not in ("", self._socket.instance.arn):
            raise shapes.FrameError("the message is from another container instance")

    async def _renew(self) -> None:
        now = self._loop.time()
        if now - self._renewed_at >= self._agent_parts.leases.ttl_s / 6:
            await self._agent_parts.leases.renew(self._socket.instance)
            self._renewed_at = now

    async def _verify_stops(self, message: shapes.StopVerification) -> None:
        if not message.message_id or message.message_id != self._manifest_id:
            raise shapes.FrameError("the message does not answer a manifest of this connection")
        candidates = [candidate.task_arn for candidate in message.stop_candidates]
        unwanted = await self._acs.manifests.unwanted(self._socket.instance, candidates)
        self._manifest_id = ""
        answer = {
            "generatedAt": int(self._agent_parts.parts.clock() * 1000),
            "messageId": message.message_id,
            "stopTasks": shapes.identifiers(
                [(arn, "STOPPED") for arn in unwanted], self._cluster_arn
            ),
        }
        _log.info(
            "agent stops tasks that are not wanted",
            instance=self._socket.instance.arn,
            asked=len(candidates),
            stops=len(unwanted),
        )
        await self._socket.send(shapes.write("TaskStopVerificationAck", answer))
