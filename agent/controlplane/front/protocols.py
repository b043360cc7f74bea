"""Which AWS service a request is for, and errors that its client can parse. Pure.

A client names the service in its signature, else in ``X-Amz-Target``. Each protocol has its own format
of errors; clients show an error in another format as "invalid XML received".

Sources: the protocols as botocore 1.44 writes and parses them (``botocore/serialize.py``,
``botocore/parsers.py``), the Smithy specifications of ``rpcv2Cbor`` and ``awsQuery``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.sax.saxutils import escape

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

CBOR_PROTOCOL = "rpc-v2-cbor"
FORM = "application/x-www-form-urlencoded"
UNNAMED = "a service of AWS"
"""The service of a request that does not say which one it means, because it is not signed."""
_SERVICE_LIMIT = 64
_BY_PATH = {"schedules": "scheduler", "schedule-groups": "scheduler"}
"""Services by the first element of paths that no other has."""

# Bounded, so that a header with many beginnings is not searched to its end from each of them.
_SCOPE = re.compile(
    r"Credential=[^/,]{1,128}/[0-9]{8}/[^/,]{1,64}/([A-Za-z0-9-]{1,64})/aws4_request"
)
_PRESIGNED = re.compile(r"[^/]+/[0-9]{8}/[^/]+/([A-Za-z0-9-]{1,64})/aws4_request")


class Protocol(Enum):
    """The protocol of an AWS service."""

    JSON = "json"
    QUERY = "query"
    EC2 = "ec2"
    REST_JSON = "rest-json"
    S3 = "s3"
    CBOR = "rpc-v2-cbor"


@dataclass(frozen=True, slots=True)
class Addressed:
    """The target of a request."""

    service: str
    """As in a signature: ``sts``, ``ec2``, ``elasticloadbalancing``; else the prefix of the target."""
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error in the format of a protocol."""

    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


def addressed(
    headers: Mapping[str, str], query: Mapping[str, str], content_type: str, path: str = "/"
) -> Addressed | None:
    """Return the service that a request is for; None if no AWS client would send the request.

    Args:
        headers: of the request; names in any case.
        query: parameters of its URL.
        content_type: of its body, without parameters.
        path: of its URL; unsigned requests to a service with paths of its own are known by it.
    """
    match = _SCOPE.search(headers.get("Authorization", "")) or _PRESIGNED.fullmatch(
        unquote(query.get("X-Amz-Credential", ""))
    )
    scope = match[1] if match else ""
    target = headers.get("X-Amz-Target", "")
    if headers.get("Smithy-Protocol") == CBOR_PROTOCOL:
        return Addressed(scope or UNNAMED, Protocol.CBOR)
    if target:
        return Addressed(scope or target.split(".")[0][:_SERVICE_LIMIT], Protocol.JSON)
    if content_type == FORM or "Action" in query:
        protocol = Protocol.EC2 if scope == "ec2" else Protocol.QUERY
        return Addressed(scope or UNNAMED, protocol)
    scope = scope or _BY_PATH.get(path.split("/", 2)[1] if path[:1] == "/" else "", "")
    if not scope:
        return None
    return Addressed(scope, Protocol.S3 if scope == "s3" else Protocol.REST_JSON)


def error(protocol: Protocol, code: str, message: str, request_id: str) -> ErrorAnswer:
    """Return an error that a client of the protocol parses as ``code`` and ``message``."""
    code_xml, message_xml = escape(code), escape(message)
    match protocol:
        case Protocol.JSON:
            return ErrorAnswer(
                msgspec.json.encode({"__type": code, "message": message}),
                "application/x-amz-json-1.1",
                # For clients of services that formerly used the query protocol, such as CloudWatch.
                {"x-amzn-ErrorType": code, "x-amzn-query-error": f"{code};Sender"},
            )
        case Protocol.REST_JSON:
            body = msgspec.json.encode({"message": message})
            return ErrorAnswer(body, "application/json", {"x-amzn-ErrorType": code})
        case Protocol.QUERY:
            text = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>{code_xml}</Code>"
                f"<Message>{message_xml}</Message></Error>"
                f"<RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        case Protocol.EC2:
            text = (
                f"<Response><Errors><Error><Code>{code_xml}</Code><Message>{message_xml}</Message>"
                f"</Error></Errors><RequestID>{request_id}</RequestID></Response>"
            )
        case Protocol.S3:
            text = (
                f"<Error><Code>{code_xml}</Code><Message>{message_xml}</Message>"
                f"<RequestId>{request_id}</RequestId></Error>"
            )
        case Protocol.CBOR:
            return ErrorAnswer(
                _cbor({"__type": code, "message": message}),
                "application/cbor",
                {"Smithy-Protocol": CBOR_PROTOCOL},
            )
    return ErrorAnswer(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode(), "text/xml")


def _cbor(texts: Mapping[str, str]) -> bytes:
    """Return a map of texts in CBOR (RFC 8949): at most 23 of them, each under 64 KiB."""
    parts = [bytes([0xA0 | len(texts)])]
    for text in (text for item in texts.items() for text in item):
        encoded = text.encode()
        parts += [b"\x79", len(encoded).to_bytes(2, "big"), encoded]
    return b"".join(parts)
