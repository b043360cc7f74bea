"""The HTTP side of the long poll: see the table of calls in ``agent.model.wire``.

With a token file, the token of a call is checked first, and a call ends with its token. A call about an instance
is answered to the host of the instance alone (``agents.bindings``). Whatever an
agent sends, it gets a response, and others are not affected: an invalid call is a 400 with the reason,
a failure of the store is a 503 with ``Retry-After``, and an unexpected failure is a 500, logged once,
here. Bodies may be gzip in both directions; the limits apply to decompressed bytes.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from agent import __version__
from agent.controlplane import access, records
from agent.controlplane.agents import bindings, moved_tasks, reports
from agent.controlplane.agents.assignments import Asked, Poller
from agent.controlplane.agents.longpoll import (
    command_calls,
    held,
    identity_calls,
    ingress_calls,
    log_calls,
    messages,
    protection_calls,
    secret_calls,
    tag_calls,
)
from agent.controlplane.agents.longpoll.errors import (
    InstanceUnknown,
    InvalidRequest,
    NoSuchCall,
    TooLarge,
)
from agent.controlplane.agents.longpoll.gate import Gate, is_encrypted
from agent.controlplane.agents.longpoll.identity_calls import IdentityCalls
from agent.controlplane.agents.longpoll.ingress_calls import IngressCalls
from agent.controlplane.agents.longpoll.log_calls import LogCalls
from agent.controlplane.agents.longpoll.secret_calls import SecretsLacking
from agent.controlplane.agents.quiet_polls import Asker, QuietPoll, QuietPolls
from agent.controlplane.agents.registration import DEFAULT_CLUSTER
from agent.controlplane.front.bodies import Bodies, BodyRefused, BodyTooLarge
from agent.controlplane.instance_status import SETTABLE, with_status
from agent.controlplane.monitoring.figures import OTHER
from agent.controlplane.records import ClusterRecord, InstanceRecord
from agent.controlplane.tasks.retire import LEFT, retire
from agent.listening.connection import repeat, waited_s
from agent.model.ids import cluster_name
from agent.model.wire import (
    Hello,
    Registered,
)

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.agents.parts import AgentParts

MAX_WAIT_S = 60.0
BODY_LIMIT_BYTES = 8 * 1024 * 1024
CALL_TIMEOUT_S = 60.0
_CLUSTERS_SHOWN = 100


_log = structlog.get_logger(__name__)


class AgentWire:
    """Answers agents; one per control endpoint. Its parts' ``wakeups.run`` must run meanwhile."""

    def __init__(self, agent_parts: AgentParts) -> None:
        self._parts = agent_parts.parts
        self._identities = IdentityCalls(agent_parts.certificates, agent_parts.registry.hosts)
        self._gate = Gate(agent_parts.agent_tokens, self._identities, agent_parts.parts.figures)
        self._control_id = agent_parts.control_id
        self._registry = agent_parts.registry
        self._leases = agent_parts.leases
        self._history = agent_parts.history
        self._logs = LogCalls(agent_parts.parts)
        self._ingresses = IngressCalls(agent_parts.parts, agent_parts.wakeups)
        self._bodies = Bodies(BODY_LIMIT_BYTES)
        self._poller = Poller(
            parts=agent_parts.parts,
            registry=agent_parts.registry,
            leases=agent_parts.leases,
            wakeups=agent_parts.wakeups,
            orders=agent_parts.orders,
            history=agent_parts.history,
            groups=agent_parts.groups,
            fleet=agent_parts.fleet,
            names=agent_parts.names,
        )
        self._quiet_polls = QuietPolls(
            wakeups=agent_parts.wakeups,
            incumbents=agent_parts.registry.incumbents,
            held=self._poller.held,
            agent_tokens=agent_parts.agent_tokens,
            identities=self._identities,
            figures=agent_parts.parts.figures,
        )

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the calls of the wire to an application."""
        router.add_get("/v1/hello", self._gate.answering("hello", self._hello_call))
        router.add_post("/v1/instances", self._gate.answering("register", self._register_call))
        router.add_get(
            "/v1/instances/{id}/assignments",
            self._gate.answering("assignments", self._assignments_call),
        )
        router.add_post(
            "/v1/instances/{id}/changes", self._gate.answering("changes", self._changes_call)
        )
        router.add_post("/v1/instances/{id}/usage", self._gate.answering("usage", self._usage_call))
        router.add_post("/v1/instances/{id}/held", self._gate.answering("held", self._held_call))
        router.add_post(
            "/v1/instances/{id}/brought", self._gate.answering("brought", self._brought_call)
        )
        router.add_post(
            "/v1/instances/{id}/status", self._gate.answering("status", self._status_call)
        )
        router.add_post(
            "/v1/instances/{id}/protection",
            self._gate.answering("protection", self._protection_call),
        )
        router.add_delete("/v1/instances/{id}", self._gate.answering("leave", self._leave_call))
        router.add_post("/v1/secrets", self._gate.answering("secrets", self._secrets_call))
        router.add_post("/v1/tags", self._gate.answering("tags", self._tags_call))
        router.add_post("/v1/logs", self._gate.answering("logs", self._logs_call))
        router.add_post(
            "/v1/logs/streams", self._gate.answering("log_stream", self._log_stream_call)
        )
        router.add_post("/v1/identities", self._gate.answering("identity", self._identity_call))
        router.add_get("/v1/authority", self._gate.answering_all("authority", self._authority_call))
        router.add_get("/v1/ingresses/{id}", self._gate.answering("ingress", self._ingress_call))
        router.add_post(
            "/v1/ingresses/{id}/health", self._gate.answering("health", self._health_call)
        )
        router.add_delete(
            "/v1/ingresses/{id}", self._gate.answering("ingress", self._ingress_end_call)
        )
        router.add_get(
            "/v1/instances/{id}/commands/{session}",
            self._gate.answering("command", self._command_call),
        )
        for rest in ("/v1", "/v1/{rest:.*}"):
            router.add_route("*", rest, self._gate.answering(OTHER, _no_such_call))

    def close(self) -> None:
        """Answer all held polls now; the server stops."""
        self._ingresses.close()
        self._quiet_polls.close()
        self._poller.close()

    async def _hello_call(self, request: web.Request) -> web.Response:
        asked = cluster_name(request.query.get("cluster", ""))
        async with asyncio.timeout(CALL_TIMEOUT_S):
            names = await self._some_clusters()
            takes = await self._takes(asked) if asked else None
        return messages.answer(
            Hello(
                control_id=self._control_id,
                version=__version__,
                region=self._parts.names.region,
                clusters=names,
                takes_cluster=takes,
            )
        )

    async def _some_clusters(self) -> list[str]:
        """Return the names of the first clusters; reads no more than needed."""
        names: list[str] = []
        async for _, record in access.scan(self._parts.store, ClusterRecord, records.CLUSTERS):
            if record.status == "ACTIVE":
                names.append(record.name)
            if len(names) == _CLUSTERS_SHOWN:
                break
        return names

    async def _takes(self, cluster: str) -> bool:
        """Return whether hosts may register in a cluster."""
        if cluster == DEFAULT_CLUSTER:
            return True  # the first host that asks for it makes it
        found = await access.find(self._parts.store, ClusterRecord, records.cluster_key(cluster))
        return found is not None and found.record.status == "ACTIVE"

    async def _register_call(self, request: web.Request) -> web.Response:
        call = await messages.read_body(messages.read_registration, await self._body(request))
        session = secrets.token_hex(16) if call.process_id else ""
        shown = request[messages.SHOWN]._replace(session=bindings.session_of(session))
        async with asyncio.timeout(CALL_TIMEOUT_S):
            record = await self._registry.register(call, shown, address=shown.peer)
            self._leases.forget(record.id)
            await self._leases.renew(record)
        return messages.answer(
            Registered(
                instance_arn=record.arn,
                generation=record.generation,
                session=session,
                lease_s=self._leases.ttl_s,
                control_id=self._control_id,
                cluster_arn=self._parts.names.cluster(record.cluster),
                history=self._history.current,
                went_back=record.recovering,
            )
        )

    async def _assignments_call(self, request: web.Request) -> web.Response:
        after = messages.number(request, "after")
        wait_s = min(messages.seconds(request, "wait"), MAX_WAIT_S)

        def is_gone() -> bool:
            return request.transport is None or request.transport.is_closing()

        instance_id, shown = request.match_info["id"], request[messages.SHOWN]
        credentials_after = (
            messages.number(request, "credentials") if "credentials" in request.query else None
        )
        asked = Asked(messages.generation(request), shown, after, credentials_after)
        answer = await self._poller.poll(
            instance_id, asked, wait_s=wait_s, is_gone=is_gone, waited_s=waited_s(request)
        )
        if answer is not None:
            return messages.answer(answer)
        asker = Asker(instance_id, request[messages.ADMISSION], shown.host)
        may_rest = functools.partial(self._poller.may_rest, instance_id, asked)
        held_s = self._poller.held_s(wait_s)
        repeat(request, QuietPoll(self._quiet_polls, asker, held_s, may_rest))
        return web.Response(status=204)

    async def _changes_call(self, request: web.Request) -> web.Response:
        found = await self._caller(request)
        batch = await messages.read_body(reports.read, await self._body(request))
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return messages.answer(await reports.apply(self._parts, found.record, batch))

    async def _held_call(self, request: web.Request) -> web.Response:
        found = await self._caller(request)
        told = await messages.read_body(held.read, await self._body(request))
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return messages.answer(await held.take(self._parts, found.record, told))

    async def _brought_call(self, request: web.Request) -> web.Response:
        found = await self._caller(request)
        told = await messages.read_body(held.read, await self._body(request))
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return messages.answer(
                await moved_tasks.take(self._parts, self._history, found.record, told)
            )

    async def _usage_call(self, request: web.Request) -> web.Response:
        found = await self._caller(request)
        usage = await messages.read_body(messages.read_usage, await self._body(request))
        if self._parts.metrics is not None:
            self._parts.metrics.take(found.record.id, usage)
        return web.Response(status=204)

    async def _logs_call(self, request: web.Request) -> web.Response:
        logs = await messages.read_body(log_calls.read_logs, await self._body(request))
        found = await self._caller_named(request, logs.instance)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return messages.answer(await self._logs.take(found.record, logs))

    async def _secrets_call(self, request: web.Request) -> web.Response:
        asked = secret_calls.read(await self._body(request))
        found = await self._caller_named(request, asked.instance)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            answer = await secret_calls.answer(self._parts, found.record, asked)
        return messages.answer(answer, 404 if isinstance(answer, SecretsLacking) else 200)

    async def _tags_call(self, request: web.Request) -> web.Response:
        asked = tag_calls.read(await self._body(request))
        found = await self._caller_named(request, asked.instance)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return messages.answer(await tag_calls.answer(self._parts, found.record, asked))

    async def _log_stream_call(self, request: web.Request) -> web.Response:
        asked = log_calls.read_stream(await self._body(request))
        found = await self._caller_named(request, asked.instance)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await self._logs.make_stream(found.record, asked)
        return web.Response(body=b"{}", content_type="application/json")

    async def _status_call(self, request: web.Request) -> web.Response:
        found = await self._caller(request)
        asked = messages.read_status(await self._body(request))
        if asked.status not in SETTABLE:
            raise InvalidRequest(f"the status must be one of {', '.join(SETTABLE)}")
        key = records.instance_key(found.record.cluster, found.record.id)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await access.change(
                self._parts.store,
                InstanceRecord,
                key,
                lambda old: with_status(old, asked.status),
            )
        return web.Response(status=204)

    async def _protection_call(self, request: web.Request) -> web.Response:
        found = await self._caller(request)
        asked = protection_calls.read(await self._body(request))
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return messages.answer(await protection_calls.answer(self._parts, found.record, asked))

    async def _command_call(self, request: web.Request) -> web.StreamResponse:
        found = await self._caller(request)
        return await command_calls.join(self._parts.commands, found.record, request)

    async def _leave_call(self, request: web.Request) -> web.Response:
        found = await self._caller(request)
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await retire(self._parts.store, found.record, reason=LEFT, clock=self._parts.clock)
        self._leases.forget(found.record.id)
        _log.info("instance left", instance=found.record.arn)
        return web.Response(status=204)

    async def _identity_call(self, request: web.Request) -> web.Response:
        asked = identity_calls.read(await self._body(request))
        wire = request.transport
        if wire is None:
            raise InvalidRequest("the connection is gone")
        async with asyncio.timeout(CALL_TIMEOUT_S):
            issued = await self._identities.issue(
                asked,
                request[messages.SHOWN],
                peer=wire.get_extra_info("peercert"),
                is_tls=is_encrypted(wire),
            )
        return messages.answer(issued)

    async def _authority_call(self, request: web.Request) -> web.Response:
        at = messages.number(request, "at") if "at" in request.query else None
        now, peer = self._parts.clock(), request.remote or ""
        return messages.answer(self._identities.authority(at, now, peer))

    async def _ingress_call(self, request: web.Request) -> web.Response:
        def is_gone() -> bool:
            return request.transport is None or request.transport.is_closing()

        truth = await self._ingresses.poll(
            ingress_calls.read_id(request.match_info["id"]),
            ingress_calls.read_names(request.query.getall("balancer", [])),
            request.query.get("run", ""),
            messages.number(request, "after"),
            min(messages.seconds(request, "wait"), MAX_WAIT_S),
            is_gone,
            has_reported=request.query.get("reported") == "1",
        )
        return web.Response(status=204) if truth is None else messages.answer(truth)

    async def _health_call(self, request: web.Request) -> web.Response:
        ingress_id = ingress_calls.read_id(request.match_info["id"])
        reports_ = await messages.read_body(ingress_calls.read, await self._body(request))
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return messages.answer(await self._ingresses.take(ingress_id, reports_))

    async def _ingress_end_call(self, request: web.Request) -> web.Response:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await self._ingresses.end(ingress_calls.read_id(request.match_info["id"]))
        return web.Response(status=204)

    async def _body(self, request: web.Request) -> bytes:
        """Return the body of a call that was let in, inflated."""
        try:
            return await self._bodies.inflate(request, await self._bodies.read(request))
        except BodyTooLarge as error:
            raise TooLarge(str(error)) from None
        except BodyRefused as error:
            raise InvalidRequest(str(error)) from None

    async def _caller(self, request: web.Request) -> Found[InstanceRecord]:
        """Return the instance that calls, and take the call as a sign of life."""
        return await self._instance(request.match_info["id"], request)

    async def _caller_named(self, request: web.Request, arn: str) -> Found[InstanceRecord]:
        """Return the instance that calls and says so in its message."""
        found = await self._instance(records.last_element(arn), request)
        if found.record.arn != arn:
            raise InstanceUnknown("there is no such container instance")
        return found

    async def _instance(self, instance_id: str, request: web.Request) -> Found[InstanceRecord]:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            found = await self._registry.find(
                instance_id, messages.generation(request), request[messages.SHOWN]
            )
            await self._leases.renew(found.record)
        self._registry.incumbents.heard(instance_id)
        return found


async def _no_such_call(request: web.Request) -> web.Response:
    raise NoSuchCall(f"the agents' wire has no call {request.method} {request.path[:64]}")
