"""What the engine's ``awslogs`` driver sends to the relay, signed by botocore as an SDK signs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from agent.awslogs.grants import LogKeys

SIGNED = ("host", "content-type", "x-amz-target")


def signed(
    keys: LogKeys,
    operation: str,
    body: dict[str, Any] | bytes,
    *,
    host: str = "127.0.0.1:51681",
    region: str = "eu-west-1",
    service: str = "logs",
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of one call."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = AWSRequest(
        "POST",
        f"http://{host}/",
        headers={
            "Host": host,
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"Logs_20140328.{operation}",
        },
        data=raw,
    )
    SigV4Auth(Credentials(keys.access_key, keys.secret_key), service, region).add_auth(request)
    return dict(request.headers), raw


def put(
    *messages: str,
    group: str = "/ecs/web",
    stream: str = "s/c/1",
    at: int = 1_700_000_000_000,
    token: str | None = None,
) -> dict[str, Any]:
    """Return the body of ``PutLogEvents``, one event a millisecond."""
    body: dict[str, Any] = {
        "logGroupName": group,
        "logStreamName": stream,
        "logEvents": [{"timestamp": at + n, "message": m} for n, m in enumerate(messages)],
    }
    return body | ({"sequenceToken": token} if token else {})
