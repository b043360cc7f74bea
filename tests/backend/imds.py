"""The metadata service of an EC2 instance, version 2 only: no answer without a token."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.backend.hosted import Hosted

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = "ecsInstanceRole"
MAC = "0e:49:61:0f:c3:11"
_TOKEN_TTL = "X-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105 - the name of a header
_TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - the name of a header
_LONGEST_S = 21_600


@dataclass
class Look:
    """One request that came."""

    method: str
    path: str
    status: int = 0
    at: float = field(default_factory=time.monotonic)


class FakeImds(Hosted):
    """A metadata service on the loopback; ``endpoint`` is what an SDK is told."""

    def __init__(self, *, instance_id: str = "i-0123456789abcdef0") -> None:
        super().__init__()
        self.looks: list[Look] = []
        self.problems: list[str] = []
        self._tokens: dict[str, float] = {}
        self._statuses: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self.documents: dict[str, str] = documents(instance_id)
        """Texts by path below ``/latest/``; a path that is not there is a 404."""

    @property
    def endpoint(self) -> str:
        """The URL of the service."""
        return self.url

    def set(self, path: str, text: str | None) -> None:
        """Change a document; None takes it away."""
        with self._lock:
            if text is None:
                self.documents.pop(path, None)
            else:
                self.documents[path] = text

    def fail(self, prefix: str, status: int, *, delay_s: float = 0.0) -> None:
        """Answer everything below a path with a status; 0 lets it work again."""
        with self._lock:
            self._statuses.pop(prefix, None)
            if status:
                self._statuses[prefix] = (status, delay_s)

    def give_keys(self, access_key: str, secret_key: str, token: str, *, for_s: float) -> None:
        """Hand out role credentials from now on."""
        now = time.time()
        self.set("meta-data/iam/security-credentials/", ROLE)
        self.set(
            f"meta-data/iam/security-credentials/{ROLE}",
            json.dumps(
                {
                    "Code": "Success",
                    "Type": "AWS-HMAC",
                    "LastUpdated": _iso(now),
                    "AccessKeyId": access_key,
                    "SecretAccessKey": secret_key,
                    "Token": token,
                    "Expiration": _iso(now + for_s),
                }
            ),
        )

    def announce_spot(self, action: str = "terminate", *, in_s: float = 120.0) -> None:
        """Announce that the instance will be taken away."""
        notice = {"action": action, "time": _iso(time.time() + in_s)}
        self.set("meta-data/spot/instance-action", json.dumps(notice))

    def seen(self, path: str) -> list[Look]:
        """Return the requests for a path below ``/latest/``."""
        return [look for look in list(self.looks) if look.path == path]

    def wait_seen(self, path: str, *, count: int = 1, within_s: float = 40.0) -> None:
        """Return once a path was asked for so often."""
        self._wait(lambda: len(self.seen(path)) >= count, within_s, f"{count} times {path}")

    @staticmethod
    def _wait(check: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not check():
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
            time.sleep(0.02)

    # -- serving ----------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        look = Look(request.method, request.path.removeprefix("/latest/"))
        self.looks.append(look)
        response = await self._respond(request, look.path)
        look.status = response.status
        return response

    async def _respond(self, request: web.Request, path: str) -> web.Response:
        with self._lock:
            broken = [s for prefix, s in self._statuses.items() if path.startswith(prefix)]
        if broken:
            status, delay_s = broken[0]
            await asyncio.sleep(delay_s)
            return web.Response(status=status, text="as the test asked")
        if path == "api/token":
            return self._token(request)
        if request.method != "GET":
            self.problems.append(f"{request.method} {path}")
            return web.Response(status=405)
        if self._tokens.get(request.headers.get(_TOKEN, ""), 0.0) < time.monotonic():
            self.problems.append(f"{path} without a token that holds")
            return web.Response(status=401)
        with self._lock:
            text = self.documents.get(path)
        return web.Response(status=404) if text is None else web.Response(text=text)

    def _token(self, request: web.Request) -> web.Response:
        ttl = request.headers.get(_TOKEN_TTL, "")
        if request.method != "PUT" or not ttl.isdigit() or not 1 <= int(ttl) <= _LONGEST_S:
            self.problems.append(f"{request.method} api/token, ttl {ttl!r}")
            return web.Response(status=400)
        if "X-Forwarded-For" in request.headers:
            return web.Response(status=403)
        token = uuid.uuid4().hex
        self._tokens[token] = time.monotonic() + int(ttl)
        return web.Response(text=token, headers={_TOKEN_TTL: ttl})


def documents(instance_id: str) -> dict[str, str]:
    """Return what an instance of an ordinary VPC finds, without role and notices."""
    identity: dict[str, Any] = {
        "accountId": "123456789012",
        "architecture": "x86_64",
        "availabilityZone": "us-east-1a",
        "imageId": "ami-0123456789abcdef0",
        "instanceId": instance_id,
        "instanceType": "c5.large",
        "privateIp": "10.0.0.17",
        "region": "us-east-1",
        "version": "2017-09-30",
    }
    return {
        "dynamic/instance-identity/document": json.dumps(identity, indent=2),
        "dynamic/instance-identity/signature": "c2lnbmF0dXJl",
        "meta-data/instance-id": instance_id,
        "meta-data/mac": MAC,
        f"meta-data/network/interfaces/macs/{MAC}/vpc-id": "vpc-0123456789abcdef0",
        f"meta-data/network/interfaces/macs/{MAC}/subnet-id": "subnet-0123456789abcdef0",
        "meta-data/local-ipv4": "10.0.0.17",
        "meta-data/placement/region": "us-east-1",
        "meta-data/placement/availability-zone": "us-east-1a",
        "meta-data/placement/availability-zone-id": "use1-az1",
    }


def _iso(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
