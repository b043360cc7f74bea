"""Parses ACS messages and creates their answers. Pure.

Parsing is tolerant: fields that are not needed to act on a message may be missing or of any type.
If a required field is missing, the message is an ``UnusableMessage``; no other exception is raised,
whatever a server sends. Answers repeat the identifiers of the message, not what this host knows
about itself.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/model`` and ``ecs-agent/acs/session``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.model.payload import Credentials, RoleType
from agent.upstream.amazon.acs import fields as f
from agent.upstream.amazon.acs import validity
from agent.upstream.amazon.acs.fields import Fields, UnusableMessage
from agent.upstream.amazon.acs.validity import Interface, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable

HEARTBEAT: Final = "HeartbeatMessage"
PAYLOAD: Final = "PayloadMessage"
CREDENTIALS: Final = "IAMRoleCredentialsMessage"
TASK_INTERFACES: Final = "AttachTaskNetworkInterfacesMessage"
INSTANCE_INTERFACES: Final = "AttachInstanceNetworkInterfacesMessage"
CONFIRM_ATTACHMENT: Final = "ConfirmAttachmentMessage"
MANIFEST: Final = "TaskManifestMessage"
STOP_VERIFIED: Final = "TaskStopVerificationAck"
STAGE_UPDATE: Final = "StageUpdateMessage"
PERFORM_UPDATE: Final = "PerformUpdateMessage"

TOLD: Final = frozenset(
    {
        "CloseMessage",
        "ErrorMessage",
        "ServerException",
        "BadRequestException",
        "InvalidClusterException",
        "InvalidInstanceException",
        "AccessDeniedException",
        "InactiveInstanceException",
    }
)
"""Messages that are only logged."""

RUNNING: Final = "RUNNING"
ROLE_TYPES: Final = frozenset(RoleType)

_SECRET_LIMIT: Final = 64 * 1024
"""No session token is longer."""
_VOLUME_WAIT_MS: Final = 300_000
_encode = msgspec.json.Encoder().encode


class Origin(Struct, frozen=True, kw_only=True):
    """Identifiers of a message that its answer repeats."""

    message_id: str
    cluster: str
    instance: str


class PayloadMessage(Struct, frozen=True, kw_only=True):
    """Tasks to run and to stop; ``tasks`` are not parsed yet (``tasks.read``)."""

    origin: Origin
    seq_num: int | None
    tasks: list[msgspec.Raw]


class CredentialsMessage(Struct, frozen=True, kw_only=True):
    """New credentials for one role of one task."""

    message_id: str
    task_arn: str
    role_type: str
    credentials: Credentials


class ManifestMessage(Struct, frozen=True, kw_only=True):
    """Everything that ECS wants on this host, as of ``timeline``."""

    origin: Origin
    timeline: int
    running: frozenset[str]
    """ARNs of the tasks that should run."""
    others: frozenset[str]
    """ARNs in the list whose desired status cannot be read."""
    nameless: int
    """Number of entries without a task ARN."""


class StopVerified(Struct, frozen=True, kw_only=True):
    """The tasks that should stop, of those that the agent asked about."""

    message_id: str
    task_arns: list[str]


class InterfacesMessage(Struct, frozen=True, kw_only=True):
    """Network interfaces that are being attached, to a task or, without one, to the host."""

    origin: Origin
    task_arn: str
    wait_s: float
    interfaces: list[Interface]


class VolumeMessage(Struct, frozen=True, kw_only=True):
    """A volume that is being attached; None if the message is only to be acknowledged."""

    origin: Origin
    task_arn: str
    wait_s: float
    volume: Volume | None


# --- incoming ---------------------------------------------------------------------------------


def heartbeat(raw: msgspec.Raw) -> str:
    """Return the message id of a heartbeat; empty if it has none."""
    return f.text(f.read(raw, HEARTBEAT), "messageId")


def payload(raw: msgspec.Raw) -> PayloadMessage:
    """Parse a ``PayloadMessage``; raises ``UnusableMessage``."""
    fields = f.read(raw, PAYLOAD)
    return PayloadMessage(
        origin=origin(fields), seq_num=f.whole(fields, "seqNum"), tasks=f.parts(fields, "tasks")
    )


def credentials(raw: msgspec.Raw) -> CredentialsMessage:
    """Parse an ``IAMRoleCredentialsMessage``; raises ``UnusableMessage``."""
    fields = f.read(raw, CREDENTIALS)
    message_id, task_arn, role_type = f.needed(fields, "messageId", "taskArn", "roleType")
    if role_type not in ROLE_TYPES:
        raise UnusableMessage(
            f"roleType {role_type[:100]!r} is not one of {', '.join(sorted(ROLE_TYPES))}"
        )
    found = role(fields, "roleCredentials")
    if found is None:
        raise UnusableMessage("roleCredentials missing or without credentialsId")
    return CredentialsMessage(
        message_id=message_id, task_arn=task_arn, role_type=role_type, credentials=found
    )


def role(fields: Fields, name: str) -> Credentials | None:
    """Return the role credentials in a field; None if there are none with an id."""
    if name not in fields:
        return None
    try:
        told = f.read(fields[name], name)
    except UnusableMessage:
        return None
    credentials_id = f.text(told, "credentialsId")
    if not credentials_id:
        return None
    return Credentials(
        credentials_id=credentials_id,
        access_key_id=f.text(told, "accessKeyId"),
        secret_access_key=f.text(told, "secretAccessKey"),
        session_token=f.text(told, "sessionToken", _SECRET_LIMIT),
        role_arn=f.text(told, "roleArn"),
        expiration=f.text(told, "expiration"),
    )


def manifest(raw: msgspec.Raw) -> ManifestMessage:
    """Parse a ``TaskManifestMessage``; raises ``UnusableMessage``."""
    fields = f.read(raw, MANIFEST)
    timeline = f.whole(fields, "timeline")
    if timeline is None:
        raise UnusableMessage("timeline missing or not a number")
    running: set[str] = set()
    others: set[str] = set()
    nameless = 0
    for part in f.parts(fields, "tasks"):
        arn, desired = _listed(part)
        if not arn:
            nameless += 1
        elif desired == RUNNING:
            running.add(arn)
        elif not desired:
            others.add(arn)
    return ManifestMessage(
        origin=origin(fields),
        timeline=timeline,
        running=frozenset(running),
        others=frozenset(others),
        nameless=nameless,
    )


def stop_verified(raw: msgspec.Raw) -> StopVerified:
    """Parse a ``TaskStopVerificationAck``; raises ``UnusableMessage``."""
    fields = f.read(raw, STOP_VERIFIED)
    (message_id,) = f.needed(fields, "messageId")
    arns = [_listed(part)[0] for part in f.parts(fields, "stopTasks")]
    return StopVerified(message_id=message_id, task_arns=[arn for arn in arns if arn])


def interfaces(raw: msgspec.Raw, *, of_task: bool) -> InterfacesMessage:
    """Parse one of the two attach messages; one bad interface raises ``UnusableMessage``."""
    fields = f.read(raw, "message")
    came_from = origin(fields)
    task_arn = f.needed(fields, "taskArn")[0] if of_task else ""
    wait_ms = f.whole(fields, "waitTimeoutMs") or 0
    if wait_ms <= 0:
        raise UnusableMessage("waitTimeoutMs missing or not above 0")
    found = [
        validity.interface(f.read(part, "interface"))
        for part in f.parts(fields, "elasticNetworkInterfaces")
    ]
    if not found:
        raise UnusableMessage("elasticNetworkInterfaces missing or empty")
    if not all(each.attachment_arn for each in found):
        raise UnusableMessage("attachmentArn of an interface missing or not a text")
    return InterfacesMessage(
        origin=came_from, task_arn=task_arn, wait_s=wait_ms / 1000.0, interfaces=found
    )


def volume(raw: msgspec.Raw) -> VolumeMessage:
    """Parse a ``ConfirmAttachmentMessage``; raises ``UnusableMessage``."""
    fields = f.read(raw, CONFIRM_ATTACHMENT)
    came_from = origin(fields)
    validity.arn("clusterArn", came_from.cluster)
    validity.arn("containerInstanceArn", came_from.instance)
    if "attachment" not in fields:
        raise UnusableMessage("attachment missing")
    wait_ms = f.whole(fields, "waitTimeoutMs") or 0
    return VolumeMessage(
        origin=came_from,
        task_arn=f.text(fields, "taskArn"),
        wait_s=(wait_ms if wait_ms > 0 else _VOLUME_WAIT_MS) / 1000.0,
        volume=validity.volume(f.read(fields["attachment"], "attachment")),
    )


def update(raw: msgspec.Raw) -> Origin:
    """Parse one of the two messages about agent updates; raises ``UnusableMessage``."""
    fields = f.read(raw, "message")
    (message_id,) = f.needed(fields, "messageId")
    return Origin(
        message_id=message_id,
        cluster=f.text(fields, "clusterArn"),
        instance=f.text(fields, "containerInstanceArn"),
    )


def told(raw: msgspec.Raw) -> str:
    """Return the text of a message that is only logged; never raises."""
    try:
        return f.text(f.read(raw, "message"), "message")
    except UnusableMessage:
        return ""


def origin(fields: Fields) -> Origin:
    """Return the identifiers that the answer repeats; raises ``UnusableMessage``."""
    message_id, cluster, instance = f.needed(
        fields, "messageId", "clusterArn", "containerInstanceArn"
    )
    return Origin(message_id=message_id, cluster=cluster, instance=instance)


def _listed(part: msgspec.Raw) -> tuple[str, str]:
    """Return ARN and desired status of a ``TaskIdentifier``; empty if they cannot be read."""
    try:
        fields = f.read(part, "task")
    except UnusableMessage:
        return "", ""
    return f.text(fields, "taskArn"), f.text(fields, "desiredStatus")


# --- outgoing ---------------------------------------------------------------------------------


def ack(to: Origin) -> bytes:
    """Return an ``AckRequest``."""
    return _envelope("AckRequest", _origin(to))


def nack(to: Origin, reason: str) -> bytes:
    """Return a ``NackRequest``."""
    return _envelope("NackRequest", _origin(to) | {"reason": reason})


def heartbeat_ack(message_id: str) -> bytes:
    """Return a ``HeartbeatAckRequest``."""
    return _envelope("HeartbeatAckRequest", {"messageId": message_id})


def credentials_ack(message_id: str, kept: Credentials) -> bytes:
    """Return an ``IAMRoleCredentialsAckRequest``."""
    body = {
        "messageId": message_id,
        "credentialsId": kept.credentials_id,
        "expiration": kept.expiration,
    }
    return _envelope("IAMRoleCredentialsAckRequest", body)


def stop_verification(to: Origin, task_arns: Iterable[str]) -> bytes:
    """Return a ``TaskStopVerificationMessage`` that asks whether these tasks should stop."""
    candidates = [
        {"taskArn": arn, "taskClusterArn": to.cluster, "desiredStatus": "STOPPED"}
        for arn in task_arns
    ]
    body = {"messageId": to.message_id, "stopCandidates": candidates}
    return _envelope("TaskStopVerificationMessage", body)


def _origin(to: Origin) -> dict[str, Any]:
    return {
        "cluster": to.cluster,
        "containerInstance": to.instance,
        "messageId": to.message_id,
    }


def _envelope(kind: str, message: dict[str, Any]) -> bytes:
    return _encode({"type": kind, "message": message})
