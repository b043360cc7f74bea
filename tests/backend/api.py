"""The API of the back end: JSON 1.1 over ``POST /``, strict about what it is asked.

A request that breaks a rule of the wire is refused as AWS would refuse it, and is written into the
journal as a problem besides.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from aiohttp import web

from tests.backend import faults, requests, strict_json
from tests.backend.journal import Call
from tests.backend.signatures import SignatureRefused

if TYPE_CHECKING:
    from tests.backend.faults import Fault
    from tests.backend.journal import Journal
    from tests.backend.signatures import Clock, Verifier

ACCOUNT = "123456789012"
REGION = "us-east-1"
CONTENT_TYPE = "application/x-amz-json-1.1"


class Refused(Exception):
    """What was asked is not done; becomes an error answer."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


@dataclass
class Instance:
    """A container instance."""

    arn: str
    cluster: str
    attributes: list[dict[str, str]] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    tags: list[dict[str, str]] = field(default_factory=list)
    status: str = "ACTIVE"
    registrations: int = 0
    """How often it came."""


class Api:
    """The operations, and what they know: clusters, instances, tags."""

    def __init__(self, journal: Journal, verifier: Verifier) -> None:
        self._journal = journal
        self._verifier = verifier
        self.script = faults.Script()
        self.clusters = {"default"}
        self.instances: dict[str, Instance] = {}
        self.tags: dict[str, list[dict[str, str]]] = {}
        self.endpoints: dict[str, str] = {}
        """The answer of DiscoverPollEndpoint."""
        self.echo_attributes = True
        """Whether a registration is answered with the attributes as they were asked for."""
        self._tokens: dict[str, str] = {}

    @property
    def clock(self) -> Clock:
        """The back end's time."""
        return self._verifier.clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        raw = await request.read()
        call = Call(
            request.headers.get("X-Amz-Target", "").partition(".")[2],
            {},
            dict(request.headers),
        )
        try:
            try:
                self._read(request, raw, call)
            finally:
                self._journal.add(call)
            fault = self.script.take(call.operation, call.request)
            if fault is not None:
                return await self._go_wrong(request, call, fault)
            return self._answer(call, self._do(call))
        except Refused as error:
            call.code = error.code
            body = {"__type": error.code, "message": str(error)}
            return self._answer(call, body, status=error.status)
        finally:
            call.ended_at = call.ended_at or monotonic()
            self._journal.touch()

    # -- reading ----------------------------------------------------------------------------------

    def _read(self, request: web.Request, raw: bytes, call: Call) -> None:
        """Check everything about a request but what it means."""
        prefix = request.headers.get("X-Amz-Target", "").partition(".")[0]
        if prefix != requests.TARGET or call.operation not in requests.OPERATIONS:
            self._wrong(call, "UnknownOperationException", f"target {prefix}.{call.operation}")
        if request.path != "/" or request.query_string:
            self._wrong(call, "UnknownOperationException", f"path {request.raw_path}")
        if request.headers.get("Content-Type") != CONTENT_TYPE:
            kind = request.headers.get("Content-Type")
            self._wrong(call, "SerializationException", f"content type {kind}")
        if not request.headers.get("User-Agent"):
            self._wrong(call, "SerializationException", "no User-Agent")
        try:
            document = strict_json.loads(raw)
        except strict_json.NotStrict as error:
            self._wrong(call, "SerializationException", str(error))
        if not isinstance(document, dict):
            self._wrong(call, "SerializationException", "no object")
        call.request = document
        self._check_signature(request, raw, call)
        found = requests.faults_of(call.operation, call.request)
        if found:
            self._wrong(call, "InvalidParameterException", "; ".join(found))

    def _check_signature(self, request: web.Request, raw: bytes, call: Call) -> None:
        url = f"http://{request.headers.get('Host', '')}{request.raw_path}"
        try:
            signed = self._verifier.check("POST", url, request.headers, raw)
        except SignatureRefused as error:
            # A clock that is wrong on purpose is not the agent's fault.
            if not self.clock.ahead_s:
                self._journal.complain(call.operation, f"{error.code}: {error}")
            raise Refused(error.code, str(error)) from None
        if "x-amz-target" not in signed:
            self._wrong(call, "IncompleteSignatureException", "X-Amz-Target is not signed")

    def _wrong(self, call: Call, code: str, text: str) -> NoReturn:
        self._journal.complain(call.operation, f"{code}: {text}; request {call.request}")
        raise Refused(code, text)

    # -- answering --------------------------------------------------------------------------------

    def _answer(self, call: Call, body: dict[str, Any], *, status: int = 200) -> web.Response:
        return self._bytes(call, json.dumps(body).encode(), status, CONTENT_TYPE)

    def _bytes(self, call: Call, body: bytes, status: int, content_type: str) -> web.Response:
        call.status, call.ended_at = status, monotonic()
        headers = {
            "Content-Type": content_type,
            "Date": self.clock.date(),
            "x-amzn-RequestId": str(uuid.uuid4()),
        }
        return web.Response(body=body, status=status, headers=headers)

    async def _go_wrong(self, request: web.Request, call: Call, fault: Fault) -> web.StreamResponse:
        match fault:
            case faults.Refuse(code, message, status, prefix):
                call.code = code
                return self._answer(
                    call, {"__type": prefix + code, "message": message}, status=status
                )
            case faults.Answer(body, status, content_type, code):
                call.code = code
                return self._bytes(call, body, status, content_type)
            case faults.Delay(seconds):
                await asyncio.sleep(seconds)
                return self._answer(call, self._do(call))
            case faults.Half():
                return await self._half(request, call)
            case faults.Drop():
                call.code = "(dropped)"
                return self._cut(request)
            case faults.Hang():
                call.code = "(hung)"
                await asyncio.Event().wait()
        raise AssertionError(f"no such fault: {fault}")

    async def _half(self, request: web.Request, call: Call) -> web.StreamResponse:
        body = json.dumps(self._do(call)).encode()
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        response.content_length = len(body) + 10
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        call.status, call.code = 200, "(half)"
        return self._cut(request)

    @staticmethod
    def _cut(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    # -- operations -------------------------------------------------------------------------------

    def _do(self, call: Call) -> dict[str, Any]:
        """Do what was asked and return the answer; raises ``Refused``."""
        request = call.request
        match call.operation:
            case "RegisterContainerInstance":
                return self._register(request)
            case "CreateCluster":
                self.clusters.add(request["clusterName"])
                name = request["clusterName"]
                return {"cluster": {"clusterArn": cluster_arn(name), "clusterName": name}}
            case "DiscoverPollEndpoint":
                self._known(request["cluster"], request["containerInstance"])
                return dict(self.endpoints)
            case "UpdateContainerInstancesState":
                return self._drain(request)
            case "ListTagsForResource":
                return {"tags": self.tags.get(request["resourceArn"], [])}
            case _:  # the Submit* operations: what was submitted is in the journal
                self._known(request["cluster"])
                return {"acknowledgment": "ACK"}

    def _known(self, cluster: str, instance: str = "") -> None:
        if name_of(cluster) not in self.clusters:
            raise Refused("ClusterNotFoundException", "Cluster not found.")
        if instance and instance not in self.instances:
            raise Refused("InvalidParameterException", f"no container instance {instance}")

    def _register(self, request: dict[str, Any]) -> dict[str, Any]:
        self._known(request["cluster"])
        arn = request.get("containerInstanceArn", "")
        if arn and arn not in self.instances:
            raise Refused("ClientException", f"Container instance {arn} is not known.")
        token = request["clientToken"]
        arn = arn or self._tokens.get(token, "")
        if not arn:
            cluster = name_of(request["cluster"])
            arn = instance_arn(cluster)
            self.instances[arn] = Instance(arn, cluster)
        self._tokens[token] = arn
        instance = self.instances[arn]
        instance.registrations += 1
        instance.resources = request["totalResources"]
        instance.tags = request.get("tags", instance.tags)
        kept = {a["name"]: a for a in instance.attributes}
        kept |= {a["name"]: a for a in request["attributes"]}
        zone = {"name": "ecs.availability-zone", "value": f"{REGION}a"}
        instance.attributes = [*kept.values(), zone] if self.echo_attributes else [zone]
        return {
            "containerInstance": {
                "containerInstanceArn": arn,
                "ec2InstanceId": "mi-0123456789abcdef0",
                "status": instance.status,
                "version": instance.registrations,
                "agentConnected": False,
                "runningTasksCount": 0,
                "pendingTasksCount": 0,
                "registeredAt": round(self.clock.now(), 3),
                "registeredResources": instance.resources,
                "remainingResources": instance.resources,
                "attributes": instance.attributes,
                "attachments": [],
                "tags": instance.tags,
            }
        }

    def _drain(self, request: dict[str, Any]) -> dict[str, Any]:
        self._known(request["cluster"])
        for arn in request["containerInstances"]:
            self._known(request["cluster"], arn)
            self.instances[arn].status = request["status"]
        listed = [
            {"containerInstanceArn": a, "status": request["status"]}
            for a in request["containerInstances"]
        ]
        return {"containerInstances": listed, "failures": []}


def name_of(cluster: str) -> str:
    """Return a cluster's name from its name or ARN."""
    return cluster.rpartition("/")[2]


def cluster_arn(name: str) -> str:
    """Return the ARN of a cluster."""
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}"


def instance_arn(cluster: str) -> str:
    """Return the ARN of a container instance that did not exist before."""
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/{cluster}/{uuid.uuid4().hex}"


def task_arn(cluster: str = "default") -> str:
    """Return the ARN of a task that did not exist before."""
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/{uuid.uuid4().hex}"
