"""An agent of the wire reference: says and hears what Amazon's agent does, and nothing by itself."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import urllib.parse
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import yarl
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.control_endpoint import ApiFailure, Endpoint, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TARGET = "AmazonEC2ContainerServiceV20141113"
CONTENT_TYPE = "application/x-amz-json-1.1"

_P = "com.amazonaws.ecs.capability."
_E = "ecs.capability."
EXTERNAL = (
    *(f"{_P}docker-remote-api.1.{minor}" for minor in (*range(17, 26), 28, 29, 30, 32)),
    *(f"{_P}{name}" for name in ("privileged-container", "ecr-auth", "logging-driver.awsfirelens")),
    *(f"{_P}logging-driver.{name}" for name in ("json-file", "none")),
    *(
        f"{_E}{name}"
        for name in (
            "private-registry-authentication.secretsmanager",
            "secrets.ssm.environment-variables",
            "secrets.asm.environment-variables",
            "ecr-endpoint",
            "container-ordering",
            "full-sync",
            "env-files.s3",
            "network.container-port-range",
            "container-restart-policy",
            "execution-role-ecr-pull",
            "container-health-check",
            "task-cpu-mem-limit",
            "increased-task-cpu-limit",
            "docker-plugin.local",
            "pid-ipc-namespace-sharing",
            "firelens.fluentd",
            "firelens.fluentbit",
            "efs",
            "storage.s3-files",
            "ipv6-only",
            "external",
        )
    ),
)
"""What an external host with a current engine says it can do."""


def attributes(*more: dict[str, str]) -> list[dict[str, str]]:
    """Attributes in the order of Amazon's agent: its own, capabilities, then what the host is."""
    return [
        *more,
        *({"name": name} for name in EXTERNAL),
        {"name": "ecs.os-type", "value": "linux"},
        {"name": "ecs.os-family", "value": "LINUX"},
        {"name": "ecs.os-type-detailed", "value": "LINUX"},
        {"name": "ecs.cpu-architecture", "value": "x86_64"},
    ]


def resources(cpu: int = 2048, memory: int = 2048) -> list[dict[str, Any]]:
    """Return totalResources."""
    return [
        {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": memory},
        {
            "name": "PORTS",
            "type": "STRINGSET",
            "stringSetValue": ["22", "2375", "2376", "51678", "51679"],
        },
        {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
    ]


class Key:
    """A key pair to sign with."""

    def __init__(self, secret: str, *, skew_s: float = 0.0) -> None:
        self._keys = Credentials("AKIDANY", secret, "a/session+token==")
        self._skew_s = skew_s

    def headers(
        self, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> dict[str, str]:
        """Return the headers of a signed call."""
        request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
        auth = SigV4Auth(self._keys, "ecs", "eu-west-3")
        if self._skew_s:
            _sign_at(auth, request, self._skew_s)
        else:
            auth.add_auth(request)
        return dict(request.headers.items())


def _sign_at(auth: Any, request: AWSRequest, skew_s: float) -> None:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=skew_s)
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    auth._modify_request_before_signing(request)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(text, request))


class Session:
    """One websocket; ``hear`` skips heartbeats, which it answers."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, prefix: str = "") -> None:
        self.ws = ws
        self._prefix = prefix
        self.beats = 0

    async def say(self, kind: str, **message: Any) -> None:
        """Send a message."""
        await self.ws.send_str(self._prefix + json.dumps({"type": kind, "message": message}))

    async def hear_any(self, *, within_s: float = 5.0) -> tuple[str, dict[str, Any]]:
        """Return type and message of the next frame."""
        async with asyncio.timeout(within_s):
            frame = await self.ws.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"{frame.type!r} {frame.data} {frame.extra}")
        body = json.loads(frame.data)
        assert set(body) == {"type", "message"}
        return body["type"], body["message"]

    async def hear(self, kind: str, *, within_s: float = 5.0) -> dict[str, Any]:
        """Return the next message, which must be of this type."""
        async with asyncio.timeout(within_s):
            while True:
                heard, message = await self.hear_any(within_s=within_s)
                if heard == "HeartbeatMessage" and kind != heard:
                    self.beats += 1
                    if "messageId" in message:
                        await self.say("HeartbeatAckRequest", messageId=message["messageId"])
                    continue
                assert heard == kind, (heard, message)
                return message

    async def ended(self, *, within_s: float = 10.0) -> None:
        """The connection ends, whatever is heard until then and is left unanswered."""
        async with asyncio.timeout(within_s):
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                while True:
                    await self.hear_any(within_s=within_s)

    async def nothing(self, *, for_s: float = 0.3) -> None:
        """Nothing but heartbeats comes for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                heard = await self.hear("nothing")
                raise AssertionError(heard)

    async def ack(self, message: dict[str, Any]) -> None:
        """Acknowledge an order or a manifest."""
        await self.say(
            "AckRequest",
            cluster=message["clusterArn"],
            containerInstance=message["containerInstanceArn"],
            messageId=message["messageId"],
        )

    async def settled(self) -> list[dict[str, Any]]:
        """Acknowledge the first orders and the manifest; return the tasks of all orders."""
        tasks: list[dict[str, Any]] = []
        while True:
            kind, message = await self.hear_any()
            if kind == "HeartbeatMessage":
                continue
            await self.ack(message)
            if kind == "TaskManifestMessage":
                return tasks
            assert kind == "PayloadMessage"
            tasks += message["tasks"]


class RawAgent:
    """Amazon's agent, as far as its wire goes."""

    def __init__(self, endpoint: Endpoint, *, url: str = "", key: Key | None = None) -> None:
        self._endpoint = endpoint
        self._url = url or endpoint.url
        self._key = key
        self.arn = ""
        self.cluster = "default"
        self.is_new = True

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Make a call of the ECS API as the agent does."""
        body = json.dumps(request).encode()
        headers = {"X-Amz-Target": f"{TARGET}.{operation}", "Content-Type": CONTENT_TYPE}
        if self._key is not None:
            headers = self._key.headers("POST", f"{self._url}/", body, headers)
        async with self._endpoint.session.post(
            f"{self._url}/", data=body, headers=headers
        ) as answer:
            assert "Date" in answer.headers
            result: dict[str, Any] = json.loads(await answer.read())
            if answer.status != 200:
                raise ApiFailure(answer.status, result)
            return result

    async def register(self, **more: Any) -> dict[str, Any]:
        """Register, again under the ARN of before."""
        request: dict[str, Any] = {
            "cluster": self.cluster,
            "clientToken": str(uuid.uuid4()),
            "instanceIdentityDocument": "",
            "instanceIdentityDocumentSignature": "",
            "totalResources": resources(),
            "attributes": attributes(),
        }
        if self.arn:
            request["containerInstanceArn"] = self.arn
        answer = await self.call("RegisterContainerInstance", **(request | more))
        instance: dict[str, Any] = answer["containerInstance"]
        self.arn = instance["containerInstanceArn"]
        return instance

    async def endpoints(self) -> dict[str, Any]:
        """Ask where ACS and TCS are."""
        return await self.call(
            "DiscoverPollEndpoint", containerInstance=self.arn, cluster=self.cluster, zoneId=""
        )

    @contextlib.asynccontextmanager
    async def acs(self, **query: str) -> AsyncIterator[Session]:
        """Open ACS."""
        base = (await self.endpoints())["endpoint"]
        asked = {
            "agentHash": "abcdef12",
            "agentVersion": "1.105.1",
            "clusterArn": self.cluster,
            "containerInstanceArn": self.arn,
            "dockerVersion": "DockerVersion: 20.10.24",
            "protocolVersion": "2",
            "sendCredentials": "true" if self.is_new else "false",
            "seqNum": "1",
        }
        async with self._upgrade(base, asked | query) as ws:
            self.is_new = False
            yield Session(ws)

    @contextlib.asynccontextmanager
    async def tcs(self, **query: str) -> AsyncIterator[Session]:
        """Open TCS; frames carry a block of signed headers."""
        base = (await self.endpoints())["telemetryEndpoint"]
        asked = {
            "agentHash": "abcdef12",
            "agentVersion": "1.105.1",
            "cluster": self.cluster,
            "containerInstance": self.arn,
            "dockerVersion": "20.10.24",
        }
        prefix = (
            "Authorization: AWS4-HMAC-SHA256 x\r\nHost: h\r\nX-Amz-Date: 20260101T000000Z\r\n\r\n"
        )
        async with self._upgrade(base, asked | query) as ws:
            yield Session(ws, prefix)

    @contextlib.asynccontextmanager
    async def _upgrade(
        self, base: str, query: dict[str, str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        assert base.endswith("/")
        text = "&".join(f"{k}={_quoted(v)}" for k, v in sorted(query.items()) if v)
        url = f"{base}ws?{text}"
        headers = self._key.headers("GET", url.replace("+", "%20")) if self._key else {}
        async with self._endpoint.session.ws_connect(
            yarl.URL(url, encoded=True), headers=headers, autoping=True
        ) as ws:
            yield ws

    async def refusal(self, path: str, **query: str) -> tuple[int, dict[str, str]]:
        """Return status and body of an upgrade that is refused."""
        asked = "&".join(f"{k}={_quoted(v)}" for k, v in sorted(query.items()))
        url = f"{self._url}{path}?{asked}"
        signed = self._key.headers("GET", url) if self._key else {}
        headers = signed | {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        async with self._endpoint.session.get(url, headers=headers) as answer:
            assert "Date" in answer.headers
            return answer.status, json.loads(await answer.read())

    async def submit(self, task: str, status: str, **more: Any) -> dict[str, Any]:
        """Report a task with its container ``main``."""
        container: dict[str, Any] = {
            "containerName": "main",
            "status": status,
            "runtimeId": "f" * 64,
            "imageDigest": "sha256:" + "a" * 64,
        }
        if status == "STOPPED":
            container["exitCode"] = 0
        request = {
            "cluster": self.cluster,
            "task": task,
            "status": status,
            "reason": "",
            "containers": [container],
        }
        return await self.call("SubmitTaskStateChange", **(request | more))


def _quoted(text: str) -> str:
    """Encode as Go's url.Values does: a space is a plus."""
    return urllib.parse.quote_plus(text, safe="")


async def run_task(endpoint: Endpoint, count: int = 1, **more: Any) -> list[str]:
    """Register a definition and run it; return the ARNs of the tasks."""
    await endpoint.call("RegisterTaskDefinition", **definition(**more))
    answer = await endpoint.call("RunTask", taskDefinition="web", count=count)
    assert answer["failures"] == []
    return [task["taskArn"] for task in answer["tasks"]]
