"""The record of one call in CloudTrail's shape, and which calls have one. Pure.

Recorded are calls of callers who are known, whether they succeed or are refused: those that change something, and
those that tell secrets. Not recorded are calls that only read, and those that deliver data (log events, figures,
reports of agents), of which there may be thousands a second; CloudTrail does not keep them as management events,
either.

Source of the shape: CloudTrail user guide, "CloudTrail record contents", version 1.09.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.audit.masking import Masked
from agent.controlplane.audit.resources import resources

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT_VERSION: Final = "1.09"
PART_MOST_BYTES: Final = 100 * 1024
"""Of a request or a response; of a larger one only its size is recorded, as CloudTrail does it."""
_ERROR_MOST: Final = 1024
_AGENT_MOST: Final = 256
_READS: Final = (
    "BatchGet",
    "Describe",
    "Discover",
    "Filter",
    "Get",
    "Head",
    "List",
    "Lookup",
    "Query",
    "Scan",
    "Search",
    "Simulate",
    "StartLiveTail",
    "Test",
)
"""How operations begin that change nothing."""
_TELL_SECRETS: Final = frozenset(
    {
        "BatchGetSecretValue",
        "GetParameter",
        "GetParameterHistory",
        "GetParameters",
        "GetParametersByPath",
        "GetSecretValue",
    }
)
_DATA: Final = frozenset(
    {
        "DiscoverPollEndpoint",
        "Poll",
        "PutLogEvents",
        "PutMetricData",
        "StartTelemetrySession",
        "SubmitAttachmentStateChanges",
        "SubmitContainerStateChange",
        "SubmitTaskStateChange",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedCall:
    """What is known of a call when it is answered."""

    at: float
    """Unix seconds."""
    source: str
    """Host name of the API, such as ``ecs.amazonaws.com``."""
    operation: str
    identity: Mapping[str, Any]
    """Who calls: the record's ``userIdentity``."""
    region: str
    account: str
    peer: str
    user_agent: str
    request_id: str
    asked: Any = field(default=None, repr=False)
    """The request as it was checked; None if it could not be read."""
    answered: Any = field(default=None, repr=False)
    """The response; None for a call that was refused."""
    asked_shape: Any = field(default=None, repr=False)
    """botocore's shape of the request; without one, the request is not recorded."""
    answered_shape: Any = field(default=None, repr=False)
    plain: Mapping[str, Any] | None = None
    """The request of a call that no model describes; it must have no secrets."""
    error: str = ""
    """Name of the error; empty for a call that was done."""
    error_text: str = field(default="", repr=False)
    tls: Mapping[str, str] | None = None


def is_read(operation: str) -> bool:
    """Return whether an operation changes nothing, by its name."""
    return operation.startswith(_READS)


def is_recorded(operation: str) -> bool:
    """Return whether calls of an operation are recorded."""
    if operation in _DATA or not operation:
        return False
    return operation in _TELL_SECRETS or not is_read(operation)


def record(call: AuditedCall) -> dict[str, Any]:
    """Return the record of a call, with nothing secret in it."""
    masked = Masked()
    reads = is_read(call.operation)
    asked = call.plain if call.plain is not None else masked.take(call.asked_shape, call.asked)
    answered = masked.take(call.answered_shape, call.answered)
    about = resources(asked, answered)
    made: dict[str, Any] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": dict(call.identity),
        "eventTime": _time(call.at),
        "eventSource": call.source,
        "eventName": call.operation,
        "awsRegion": call.region,
        "sourceIPAddress": call.peer,
        "userAgent": call.user_agent[:_AGENT_MOST],
        "requestParameters": _bounded(asked),
        "responseElements": None if reads else _bounded(answered or None),
        "requestID": call.request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": reads,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": call.account,
        "eventCategory": "Management",
    }
    if call.error:
        made["errorCode"] = call.error
        made["errorMessage"] = masked.text(call.error_text)[:_ERROR_MOST]
    if about:
        made["resources"] = about
    if call.tls is not None:
        made["tlsDetails"] = dict(call.tls)
    return made


def encode(made: Mapping[str, Any]) -> bytes:
    """Return a record as a line, with its end."""
    return msgspec.json.encode(made, enc_hook=str) + b"\n"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bounded(part: Any) -> Any:
    if part is None:
        return None
    size = len(msgspec.json.encode(part, enc_hook=str))
    if size <= PART_MOST_BYTES:
        return part
    return {"omitted": True, "originalSize": size, "reason": "fieldOverSize"}
