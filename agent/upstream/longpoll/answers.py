"""Parses control's answers: tolerates single invalid orders, is strict about everything else. Pure.

Whatever a server sends, these functions raise only ``ControlFailure``.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct, field

from agent.errors import (
    BAD_JSON,
    ControlFailure,
    ControlUnavailable,
    ErrorAnswer,
    InstanceUnknown,
    StaleGeneration,
)
from agent.model import payload as payloads
from agent.model.fleet import FleetUpdate
from agent.model.logs import LogsAnswer
from agent.model.names import NameUpdates
from agent.model.protection import ProtectionOutcome
from agent.model.security_groups import GroupUpdates
from agent.model.status import DesiredStatus
from agent.model.wire import (
    Assignment,
    Assignments,
    ChangesAnswer,
    CommandOrder,
    ErrorBody,
    Hello,
    HostIdentity,
    Registered,
    TaskCredentials,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

_TEXT_LIMIT: Final = 300
_TAG: Final = re.compile(r"(?s)<(?:style|script)\b.*?</(?:style|script)>|<[^>]*>")
"""Everything that is not text in an HTML page, which servers of other kinds send."""
_OF_GATEWAYS: Final = frozenset({502, 503, 504})
"""Statuses with which a gateway reports that the server behind it is unreachable."""


class RevisionCompacted(ControlFailure):
    """Control no longer knows the revision that the agent named: get everything."""

    retryable = True


class RequestRefused(ControlFailure):
    """Control says that the request itself is invalid; it would be refused again."""

    def __init__(self, text: str, answer: ErrorAnswer) -> None:
        super().__init__(text)
        self.answer = answer


class SecretsMissing(ControlFailure):
    """Control does not have these secrets, or not for this task."""

    def __init__(self, text: str, missing: list[str]) -> None:
        super().__init__(text)
        self.missing = missing


class CallUnknown(ControlUnavailable):
    """Control does not have this call: it is older than this agent."""


class NoLogGroup(ControlFailure):
    """A log group does not exist, and is not to be made."""


class TokenRefused(ControlUnavailable):
    """Control requires one of its tokens and did not get one; its tokens may just be changing."""


class ReadAssignments(NamedTuple):
    """The orders that could be read, and what was wrong with the others."""

    assignments: Assignments
    troubles: list[str]


class _Typed(Struct, frozen=True):
    """An error of the calls for logs, which is named as in CloudWatch Logs."""

    type: str
    message: str = ""


class _Envelope(Struct, frozen=True, rename="camel"):
    revision: int
    full: bool = False
    instance_status: str = "ACTIVE"
    tasks: list[msgspec.Raw] = field(default_factory=list)
    history: str = ""
    credentials: list[msgspec.Raw] = field(default_factory=list)
    credentials_serial: int = 0
    security_groups: msgspec.Raw = field(default_factory=msgspec.Raw)
    """Empty if it is not there: a union with None would take None alone."""
    fleet: msgspec.Raw = field(default_factory=msgspec.Raw)
    """The same, likewise the next."""
    names: msgspec.Raw = field(default_factory=msgspec.Raw)
    commands: list[msgspec.Raw] = field(default_factory=list)


class _Values(Struct, frozen=True):
    values: dict[str, str]


class _Lacking(Struct, frozen=True):
    missing: list[str] = field(default_factory=list)


class _Tags(Struct, frozen=True):
    tags: dict[str, str]


_secrets = msgspec.json.Decoder(_Values)
_tags = msgspec.json.Decoder(_Tags)
_lacking = msgspec.json.Decoder(_Lacking)
_envelope = msgspec.json.Decoder(_Envelope)
_assignment = msgspec.json.Decoder(Assignment)
_command = msgspec.json.Decoder(CommandOrder)
_credentials = msgspec.json.Decoder(TaskCredentials)
_groups = msgspec.json.Decoder(GroupUpdates)
_fleet = msgspec.json.Decoder(FleetUpdate)
_names = msgspec.json.Decoder(NameUpdates)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_registered = msgspec.json.Decoder(Registered)
_changes = msgspec.json.Decoder(ChangesAnswer)
_identity = msgspec.json.Decoder(HostIdentity)
_hello = msgspec.json.Decoder(Hello)
_protection = msgspec.json.Decoder(ProtectionOutcome)
_logs = msgspec.json.Decoder(LogsAnswer)
_error = msgspec.json.Decoder(ErrorBody)
_typed = msgspec.json.Decoder(_Typed)
_NO_LOG_GROUP: Final = "ResourceNotFoundException"
_NO_SUCH_CALL: Final = "NoSuchCall"


def assignments(raw: bytes) -> ReadAssignments:
    """Parse the answer to a poll, each order separately.

    An order that cannot be read but names its task stays in the answer, as wanted and with an empty
    payload: a running task is left running, and the engine reports a new one as unreadable. If an
    order does not even name its task, the answer no longer counts as full, because a task that
    seems to be missing might be that one.

    Raises:
        ControlUnavailable: the answer as a whole is invalid.
    """
    envelope = _decode(_envelope, raw, "assignments")
    tasks: list[Assignment] = []
    troubles: list[str] = []
    full = envelope.full
    for index, part in enumerate(envelope.tasks):
        try:
            tasks.append(_one(part))
        except ValueError as error:
            arn = _arn_of(part)
            troubles.append(f"order {index} ({arn or 'task unknown'}): {error}")
            if arn:
                tasks.append(Assignment(task_arn=arn, desired_status=DesiredStatus.RUNNING))
            else:
                full = False
    issued = _readable(_credentials, envelope.credentials, "credentials of a role", troubles)
    commands = _readable(_command, envelope.commands, "session of a command", troubles)
    groups = None
    if bytes(envelope.security_groups) not in (b"", b"null"):
        # Not left out like an order: tasks would run without their rules, or with old ones.
        groups = _decode(_groups, envelope.security_groups, "security groups")
    fleet = None
    if bytes(envelope.fleet) not in (b"", b"null"):
        fleet = _decode(_fleet, envelope.fleet, "the hosts of the fleet")
    names = None
    if bytes(envelope.names) not in (b"", b"null"):
        names = _decode(_names, envelope.names, "the names of tasks")
    read = Assignments(
        revision=envelope.revision,
        full=full,
        instance_status=envelope.instance_status,
        tasks=tasks,
        history=envelope.history,
        credentials=issued,
        credentials_serial=envelope.credentials_serial,
        security_groups=groups,
        fleet=fleet,
        names=names,
        commands=commands,
    )
    return ReadAssignments(read, troubles)


def _readable(
    decoder: msgspec.json.Decoder[T], parts: Sequence[msgspec.Raw], what: str, troubles: list[str]
) -> list[T]:
    """Return the parts that can be read; adds what is wrong with others to ``troubles``."""
    found = []
    for part in parts:
        try:
            found.append(decoder.decode(part))
        except BAD_JSON as error:
            troubles.append(f"{what}: {error}")
    return found


def registered(raw: bytes) -> Registered:
    """Parse the answer to a registration.

    Raises:
        ControlUnavailable: the answer is invalid or names no instance.
    """
    answer = _decode(_registered, raw, "registration")
    if not answer.instance_arn or not answer.control_id:
        raise ControlUnavailable("the answer to the registration names no instance or no control")
    return answer


def changes(raw: bytes) -> ChangesAnswer:
    """Parse the answer to a batch of reports; raises ``ControlUnavailable``."""
    return _decode(_changes, raw, "reports")


def logs(raw: bytes) -> LogsAnswer:
    """Read an answer to log events; raises ``ControlUnavailable``."""
    return _decode(_logs, raw, "log events")


def hello(raw: bytes) -> Hello:
    """Parse the answer to a hello; raises ``ControlUnavailable``."""
    return _decode(_hello, raw, "greeting")


def protection(raw: bytes) -> ProtectionOutcome:
    """Parse the answer about the protection of a task; raises ``ControlUnavailable``."""
    return _decode(_protection, raw, "task protection")


def secrets(raw: bytes) -> dict[str, str]:
    """Read the values of secrets; raises ``ControlUnavailable``, whose text shows none of them."""
    try:
        return _secrets.decode(raw).values
    except BAD_JSON:
        raise ControlUnavailable("the answer (secrets) cannot be read") from None


def tags(raw: bytes) -> dict[str, str]:
    """Read the tags of a resource; raises ``ControlUnavailable``."""
    return _decode(_tags, raw, "tags").tags


def host_identity(raw: bytes) -> HostIdentity:
    """Read the answer to a certificate request."""
    return _decode(_identity, raw, "identity")


def failure(status: int, headers: Mapping[str, str], raw: bytes, call: str) -> ControlFailure:
    """Return the error for an unsuccessful answer; ``call`` names the call for display."""
    body = _error_body(raw)
    told = f"{call} was answered {status}" + (f" {body.code}" if body.code else "")
    text = f"{told}: {body.message}" if body.message else told
    if status == 401:
        return TokenRefused(text)
    if status == 404:
        # Another server's page does not help.
        return _not_found(body.code, text if body.code else told, raw, call)
    if status == 409 and body.code == "StaleGeneration":
        return StaleGeneration(text)
    if status == 410 and body.code in {"RevisionCompacted", ""}:
        return RevisionCompacted(text)
    if status in {400, 413, 422}:
        return RequestRefused(text, ErrorAnswer(status, body.code, body.message))
    return ControlUnavailable(
        text,
        retry_after_s=retry_after_s(headers.get("Retry-After", "")),
        # Control gives its own errors a code; without one, a gateway in front of it answered.
        away=status in _OF_GATEWAYS and not body.code,
    )


def _not_found(code: str, text: str, raw: bytes, call: str) -> ControlFailure:
    if code == "InstanceUnknown":
        return InstanceUnknown(text)
    if code == _NO_LOG_GROUP:
        return NoLogGroup(text)
    if missing := _missing(raw):
        return SecretsMissing(f"{call}: control has no secrets {', '.join(missing)}", missing)
    kind = CallUnknown if code == _NO_SUCH_CALL else ControlUnavailable
    return kind(f"{text}; this is not a control endpoint, or an older one: check the URL")


def retry_after_s(value: str, now: float | None = None) -> float:
    """Parse a Retry-After header, seconds or a date; 0 if it is empty or invalid.

    Without ``now``, a date is relative to the time of the call.
    """
    value = value.strip()
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        return _seconds_until(value, now)
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _seconds_until(date: str, now: float | None) -> float:
    try:
        at = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(0.0, at - (time.time() if now is None else now))


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes, what: str) -> T:
    try:
        return decoder.decode(raw)
    except BAD_JSON as error:
        raise ControlUnavailable(f"the answer ({what}) is invalid: {error}") from None


def _one(part: msgspec.Raw) -> Assignment:
    try:
        assignment = _assignment.decode(part)
    except BAD_JSON as error:
        raise ValueError(str(error)) from None
    if not assignment.task_arn:
        raise ValueError("taskArn is empty")
    if assignment.desired_status not in set(DesiredStatus):
        raise ValueError(f"desiredStatus {assignment.desired_status!r} is not RUNNING or STOPPED")
    return assignment


def _arn_of(part: msgspec.Raw) -> str:
    try:
        fields = _raw_fields.decode(part)
    except BAD_JSON:
        return ""
    if "taskArn" in fields:
        try:
            return _text.decode(fields["taskArn"])
        except BAD_JSON:
            pass
    return payloads.decode_arn(fields["payload"]) if "payload" in fields else ""


def _error_body(raw: bytes) -> ErrorBody:
    try:
        body = _error.decode(raw)
    except BAD_JSON:
        with contextlib.suppress(*BAD_JSON):
            named = _typed.decode(raw)
            return ErrorBody(code=_one_line(named.type), message=_one_line(named.message))
        return ErrorBody(code="", message=_one_line(_TAG.sub(" ", raw.decode("utf-8", "replace"))))
    return ErrorBody(code=_one_line(body.code), message=_one_line(body.message))


def _missing(raw: bytes) -> list[str]:
    try:
        return [_one_line(name) for name in _lacking.decode(raw).missing]
    except BAD_JSON:
        return []


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())[:_TEXT_LIMIT]
