"""A small agent, made of botocore and aiohttp: what the test back end is tested with."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.backend.backend import KEYS

if TYPE_CHECKING:
    import aiohttp

    from tests.backend.backend import Backend
    from tests.backend.signatures import Keys

PRIVATE = {"clientToken", "zoneId"}


class Client:
    """Registers, reports and connects, as the wire says."""

    def __init__(self, backend: Backend, keys: Keys = KEYS) -> None:
        self.backend = backend
        self.keys = keys
        self.arn = ""

    def api(self) -> Any:
        """Return a boto3 client, whose model has learned what the wire has beside it."""
        client = boto3.client(
            "ecs",
            endpoint_url=self.backend.url,
            region_name="us-east-1",
            aws_access_key_id=self.keys.access_key,
            aws_secret_access_key=self.keys.secret_key,
            aws_session_token=self.keys.token or None,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=5),
        )
        model = client.meta.service_model
        for operation, name in (
            ("RegisterContainerInstance", "clientToken"),
            ("DiscoverPollEndpoint", "zoneId"),
        ):
            shape = model.operation_model(operation).input_shape
            shape.members[name] = shape.members["cluster"]
        return client

    def registration(self, **changes: Any) -> dict[str, Any]:
        """Return the request of a registration."""
        whole = {
            "cluster": "default",
            "clientToken": str(uuid.uuid4()),
            "instanceIdentityDocument": "",
            "instanceIdentityDocumentSignature": "",
            "totalResources": [
                {"name": "CPU", "type": "INTEGER", "integerValue": 2048},
                {"name": "MEMORY", "type": "INTEGER", "integerValue": 4096},
                {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22"]},
                {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
            ],
            "attributes": [
                {"name": "ecs.capability.external"},
                {"name": "ecs.os-type", "value": "linux"},
                {"name": "ecs.os-family", "value": "LINUX"},
                {"name": "ecs.cpu-architecture", "value": "x86_64"},
            ],
            **changes,
        }
        return {k: v for k, v in whole.items() if v is not None}

    def register(self, **changes: Any) -> str:
        """Register and return the instance's ARN."""
        answer = self.post("RegisterContainerInstance", self.registration(**changes))
        assert "containerInstance" in answer, answer
        self.arn = answer["containerInstance"]["containerInstanceArn"]
        return self.arn

    def post(self, operation: str, request: Any, *, raw: bytes | None = None) -> dict[str, Any]:
        """Send one signed request, right or wrong, and return the answer's JSON."""
        import http.client  # noqa: PLC0415

        body = json.dumps(request).encode() if raw is None else raw
        signed = self.sign(
            "POST",
            f"{self.backend.url}/",
            body,
            {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"AmazonEC2ContainerServiceV20141113.{operation}",
            },
        )
        connection = http.client.HTTPConnection("127.0.0.1", self.backend.port, timeout=5)
        try:
            connection.request("POST", "/", body, {**signed, "User-Agent": "unit test"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    def sign(
        self, method: str, url: str, body: bytes, headers: dict[str, str] | None = None
    ) -> dict[str, str]:
        """Return these headers and those of a signature."""
        request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
        credentials = Credentials(
            self.keys.access_key, self.keys.secret_key, self.keys.token or None
        )
        SigV4Auth(credentials, "ecs", "us-east-1").add_auth(request)
        return dict(request.headers.items())

    def acs_url(self, **changes: str) -> str:
        """Return the URL of an ACS upgrade."""
        query = {
            "agentHash": "abc",
            "agentVersion": "1.0",
            "clusterArn": "default",
            "containerInstanceArn": self.arn,
            "dockerVersion": "DockerVersion: 20.10.24",
            "protocolVersion": "2",
            "sendCredentials": "true",
            "seqNum": "1",
            **changes,
        }
        return f"{self.backend.url}/acs/ws?{urlencode(sorted(query.items()))}"

    def tcs_url(self) -> str:
        """Return the URL of a TCS upgrade."""
        query = {
            "agentHash": "abc",
            "agentVersion": "1.0",
            "cluster": "default",
            "containerInstance": self.arn,
            "dockerVersion": "20.10.24",
        }
        return f"{self.backend.url}/telemetry/here/ws?{urlencode(sorted(query.items()))}"

    async def connect(
        self, session: aiohttp.ClientSession, url: str
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a signed websocket."""
        from yarl import URL  # noqa: PLC0415

        headers = self.sign("GET", url.replace("+", "%20"), b"")
        # What the signature covers must reach the server as it is.
        return await session.ws_connect(URL(url, encoded=True), headers=headers, autoping=True)

    def frame(self, url: str, type_: str, message: Any) -> str:
        """Return the signed text of a telemetry message."""
        body = json.dumps({"type": type_, "message": message})
        signed = self.sign("GET", url.replace("+", "%20"), body.encode())
        signed["Host"] = f"127.0.0.1:{self.backend.port}"
        lines = [f"{name}: {signed[name]}\r\n" for name in sorted(signed)]
        return "".join(lines) + "\r\n" + body
