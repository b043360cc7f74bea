"""The calls of the ECS API that agents make: registration, endpoints, state changes.

They are part of ``POST /`` (``front.service_api``), which checks them against the ECS model and then
passes them on, together with the original request: botocore's model does not have every member that
Amazon's agent sends (``clientToken``), nor our extensions. Addresses that only serve agents accept just
these calls and those in ``SHARED``.

An agent only speaks for the instance that is bound to its token (``agents.bindings``), and for the tasks of it. Hosts whose
tokens have no name share these, and then cannot be told apart here.

Errors are ``ApiError``s, chosen for how the agent reacts: a ``ClientException`` or an
``InvalidParameterException`` at registration ends it permanently; an ``InvalidParameterException``
for a state change drops the change, and after any other error it is sent again without a limit.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from agent.controlplane import access, records
from agent.controlplane.agents.amazon import registering, submitted
from agent.controlplane.agents.bindings import Shown, is_proved
from agent.controlplane.agents.bound_hosts import NotItsHost
from agent.controlplane.agents.longpoll.errors import (
    InvalidRequest,
    StaleGeneration,
    TooManyHosts,
    TryAgain,
)
from agent.controlplane.agents.registration import DEFAULT_CLUSTER
from agent.controlplane.agents.reports import NoSuchTask, change_task, task_of
from agent.controlplane.api.ecs.instance_shapes import InstanceLoad, show_instance
from agent.controlplane.api.ecs.naming import active_cluster, cluster_name
from agent.controlplane.front.errors import (
    AccessDeniedException,
    ClientException,
    InvalidParameterException,
    NotServedHere,
    ServerException,
    ThrottlingException,
)
from agent.controlplane.front.signatures import SignedRequest
from agent.controlplane.names import parse_arn
from agent.controlplane.records import InstanceRecord, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.controlplane.agents.amazon.signatures import Verifier
    from agent.controlplane.agents.parts import AgentParts
    from agent.model.changes import TaskChange

    _Handler = Callable[[dict[str, Any], dict[str, Any], Shown], Awaitable[dict[str, Any]]]

OPERATIONS: Final = frozenset(
    {
        "RegisterContainerInstance",
        "DiscoverPollEndpoint",
        "SubmitTaskStateChange",
        "SubmitContainerStateChange",
        "SubmitAttachmentStateChanges",
    }
)
SHARED: Final = frozenset({"CreateCluster", "ListTagsForResource", "UpdateContainerInstancesState"})
"""Operators' calls that agents need too; on addresses for agents, only in the form they need."""
ACS_PATH: Final = "/acs/"
TCS_PATH: Final = "/tcs/"
_SERVICE_CONNECT_PATH: Final = "/sc/"
_SHOWN: Final = web.RequestKey("shown", Shown)
"""Where a request has what it shows of its host, once it is admitted as an agent's."""
_ACKNOWLEDGMENT: Final = "ACK"
_HOST: Final = re.compile(
    r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?"
)


class AgentCalls:
    """Answers the calls of agents; stateless, any number of calls run concurrently."""

    def __init__(self, agent_parts: AgentParts, verifier: Verifier) -> None:
        self._agent_parts = agent_parts
        self._parts = agent_parts.parts
        self._verifier = verifier
        self._handlers: dict[str, _Handler] = {
            "SubmitTaskStateChange": self._submit_task,
            "SubmitContainerStateChange": self._submit_container,
            "SubmitAttachmentStateChanges": self._submit_attachments,
        }

    def serves(self, operation: str) -> bool:
        """Return whether an operation is answered here."""
        return operation in OPERATIONS

    def is_for_agents(self, operation: str) -> bool:
        """Return whether an address for agents accepts an operation at all."""
        return operation in OPERATIONS or operation in SHARED

    def expect(self, request: web.Request) -> None:
        """Check that one of our tokens may have signed the call; does not need its body.

        Raises:
            SignatureRefused: none can have.
        """
        self._verifier.expect(_signed(request), request.remote or "")

    def may_know(self, request: web.Request) -> bool:
        """Return whether ``knows`` could be true with some body."""
        return self._verifier.may_know(_signed(request))

    def verify(self, request: web.Request, digest: str) -> None:
        """Check that the call is signed with one of our tokens, if they are required.

        Raises:
            SignatureRefused: it is not.
        """
        peer = request.remote or ""
        admission = self._verifier.check(_signed(request, digest), peer)
        request[_SHOWN] = self._verifier.shown(admission, peer)

    def knows(self, request: web.Request, digest: str) -> bool:
        """Return whether the call is signed with a token of the file."""
        admission = self._verifier.known(_signed(request, digest))
        if admission is None:
            return False
        request[_SHOWN] = self._verifier.shown(admission, request.remote or "")
        return True

    async def permit(self, operation: str, asked: Mapping[str, Any], request: web.Request) -> None:
        """Check that an agent may make this call: in the form that agents need, and about its own host.

        Raises:
            NotServedHere: it may not.
            AccessDeniedException: it is about another host.
        """
        match operation:
            case "CreateCluster":
                allowed = cluster_name(asked.get("clusterName")) == DEFAULT_CLUSTER
            case "UpdateContainerInstancesState":
                named = asked.get("containerInstances", ())
                allowed = len(named) == 1 and asked.get("status") == "DRAINING"
                if allowed:
                    cluster = cluster_name(asked.get("cluster"))
                    await self._own_instance(_id_of(named[0]), cluster, request[_SHOWN])
            case "ListTagsForResource":
                allowed = True
                await self._own_resource(asked.get("resourceArn", ""), request[_SHOWN])
            case _:
                allowed = self.is_for_agents(operation)
        if not allowed:
            raise NotServedHere

    async def _own_resource(self, arn: str, shown: Shown) -> None:
        """Check that a host, or the host of a task, is the caller; other resources are of no host."""
        parsed = parse_arn(arn)
        if parsed is None or len(parsed.path) != 2:
            return
        if parsed.kind == "container-instance":
            await self._own_instance(parsed.path[1], parsed.path[0], shown)
        elif parsed.kind == "task":
            found = await access.find(self._parts.store, TaskRecord, records.task_key(*parsed.path))
            if found is not None:
                await self._own_task(found.record, shown)

    async def _own_task(self, task: TaskRecord, shown: Shown) -> None:
        parsed = parse_arn(task.instance_arn)
        if parsed is not None and len(parsed.path) == 2:
            await self._own_instance(parsed.path[1], parsed.path[0], shown)

    async def _own_instance(self, instance_id: str, cluster: str, shown: Shown) -> None:
        """Check that an instance is the caller's; one that does not exist is nobody's.

        Raises:
            AccessDeniedException: it is not.
        """
        key = records.instance_key(cluster, instance_id)
        found = await access.find(self._parts.store, InstanceRecord, key)
        if found is None or found.record.status == "INACTIVE":
            return
        try:
            await self._agent_parts.registry.hosts.check(found, shown)
        except NotItsHost as error:
            raise AccessDeniedException(f"{error}.") from None

    async def call(
        self, operation: str, asked: dict[str, Any], raw: dict[str, Any], request: web.Request
    ) -> dict[str, Any]:
        """Answer one of ``OPERATIONS``.

        Args:
            operation: the operation.
            asked: the request after the check by the ECS model.
            raw: the original request.
            request: the HTTP call, for the address under which the agent reaches us.

        Raises:
            ApiError: the call fails.
        """
        if operation == "DiscoverPollEndpoint":
            return _endpoints(request)
        if operation == "RegisterContainerInstance":
            return await self._register(asked, raw, request[_SHOWN])
        return await self._handlers[operation](asked, raw, request[_SHOWN])

    async def _register(
        self, asked: dict[str, Any], raw: dict[str, Any], shown: Shown
    ) -> dict[str, Any]:
        token = raw.get("clientToken") or uuid.uuid4().hex
        if not isinstance(token, str):
            raise InvalidParameterException("clientToken must be a text.")
        call = registering.read(asked, token)
        await self._check_cluster(asked)
        arn = asked.get("containerInstanceArn", "")
        if arn:
            await self._check_instance(arn, cluster_name(asked.get("cluster")), shown, token)
        try:
            record = await self._agent_parts.registry.register(
                call, shown, tells_all=False, address=shown.peer
            )
        except TooManyHosts as error:
            raise ThrottlingException(str(error)) from None
        except (InvalidRequest, StaleGeneration, NotItsHost) as error:
            raise ClientException(str(error)) from None
        except TryAgain as error:
            raise ServerException(str(error)) from None
        if arn and record.arn != arn:
            raise ClientException("The referenced container instance is not active.")
        self._agent_parts.leases.forget(record.id)
        await self._agent_parts.leases.renew(record)
        instance = show_instance(
            record, await InstanceLoad.read(self._parts.store, record), with_tags=True
        )
        instance["attributes"] = registering.answer_attributes(
            instance["attributes"],
            asked.get("attributes", ()),
            control_id=self._agent_parts.control_id,
        )
        return {"containerInstance": instance}

    async def _check_cluster(self, asked: Mapping[str, Any]) -> None:
        """Raise ``ClusterNotFoundException``, except for ``default``, which the first host creates."""
        given = asked.get("cluster", "")
        if given in ("", DEFAULT_CLUSTER):
            return
        try:
            await active_cluster(self._parts, asked)
        except InvalidParameterException as error:
            raise ClientException(str(error)) from None

    async def _check_instance(self, arn: str, cluster: str, shown: Shown, token: str) -> None:
        parsed = parse_arn(arn)
        found = None
        if parsed is not None and parsed.kind == "container-instance" and len(parsed.path) == 2:
            key = records.instance_key(*parsed.path)
            found = await access.find(self._parts.store, InstanceRecord, key)
        if found is None or found.record.arn != arn:
            raise ClientException("The referenced container instance was not found.")
        if found.record.status == "INACTIVE":
            raise ClientException("The referenced container instance is not active.")
        if found.record.cluster != cluster:
            raise ClientException(
                f"The referenced container instance is not in the cluster {cluster}."
            )
        if not is_proved(found.record, shown, machine="", client_token=token):
            error = self._agent_parts.registry.hosts.refuse(arn, shown)
            raise ClientException(f"{error}.")

    async def _submit_task(
        self, asked: dict[str, Any], raw: dict[str, Any], shown: Shown
    ) -> dict[str, Any]:
        return await self._apply(submitted.of_task(asked, raw, self._parts.clock()), shown)

    async def _submit_container(
        self, asked: dict[str, Any], _: dict[str, Any], shown: Shown
    ) -> dict[str, Any]:
        return await self._apply(submitted.of_container(asked, self._parts.clock()), shown)

    async def _apply(self, change: TaskChange, shown: Shown) -> dict[str, Any]:
        """Apply a report of the host of a task; one of another host is dropped there, and told here."""
        try:
            task = await task_of(self._parts, change.task_arn)
            await self._own_task(task, shown)

            def decide(now: TaskRecord) -> TaskRecord:
                if now.instance_id != task.instance_id:
                    raise NoSuchTask("this container instance has no such task")
                return submitted.apply(now, change)

            await change_task(self._parts, change.task_arn, decide)
        except (NoSuchTask, AccessDeniedException, ValueError) as error:
            raise InvalidParameterException(str(error)) from None
        return {"acknowledgment": _ACKNOWLEDGMENT}

    async def _submit_attachments(self, *_: object) -> dict[str, Any]:
        """Acknowledge: agents only report attachments by control, which never makes any."""
        return {"acknowledgment": _ACKNOWLEDGMENT}


def _signed(request: web.Request, digest: str = "") -> SignedRequest:
    return SignedRequest(request.method, request.raw_path, request.headers, digest)


def _id_of(instance: str) -> str:
    """Return the id in an ARN of an instance, or in an id."""
    return records.last_element(instance)


def _endpoints(request: web.Request) -> dict[str, Any]:
    """Return the addresses, with the host name under which the agent reached this one.

    The agent treats a missing member as an error, so Service Connect has one, but is not served.
    """
    host = request.headers.get("Host", "")
    if not _HOST.fullmatch(host):
        raise ClientException("The Host header is not a valid address.")
    # Set by a proxy that ends TLS in front of control; an agent could only deceive itself with it.
    is_tls = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    base = f"{'https' if is_tls else 'http'}://{host}"
    return {
        "endpoint": f"{base}{ACS_PATH}",
        "telemetryEndpoint": f"{base}{TCS_PATH}",
        "serviceConnectEndpoint": f"{base}{_SERVICE_CONNECT_PATH}",
    }
