"""Converts a task as ordered by Amazon ECS into an assignment. Pure.

Changes only what differs from our own orders: null means absent, and there are more words for
desired statuses. The rest is parsed where the payload is decoded (``model.payload``).

Source: Amazon ECS agent 1.105.1, ``ecs-agent/acs/model`` and ``agent/acs/session``.

Tests: ``tests/unit/upstream/amazon/acs/test_messages.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from agent.errors import BAD_JSON
from agent.model import reasons
from agent.model.payload import Credentials, RoleType
from agent.model.status import DesiredStatus
from agent.model.wire import Assignment
from agent.upstream.amazon.acs import fields as f
from agent.upstream.amazon.acs import messages, validity
from agent.upstream.amazon.acs.fields import UnusableMessage
from agent.upstream.amazon.frames import one_line

if TYPE_CHECKING:
    from agent.upstream.amazon.acs.fields import Fields

_DESIRED: Final = {
    "": DesiredStatus.RUNNING,
    "NONE": DesiredStatus.RUNNING,
    "UNKNOWN": DesiredStatus.RUNNING,
    "MANIFEST_PULLED": DesiredStatus.RUNNING,
    "CREATED": DesiredStatus.RUNNING,
    "RUNNING": DesiredStatus.RUNNING,
    "STOPPED": DesiredStatus.STOPPED,
    "DEAD": DesiredStatus.STOPPED,
}
"""Current and former words. The agent runs every task that should not stop up to RUNNING."""
_ROLES: Final = (
    ("roleCredentials", RoleType.APPLICATION),
    ("executionRoleCredentials", RoleType.EXECUTION),
)
_OVERRIDES_LIMIT: Final = 1024 * 1024
_FAILED_TO_START: Final = "TaskFailedToStart"
_encode = msgspec.json.Encoder().encode


class TaskOrder(Struct, frozen=True, kw_only=True):
    """One task of a ``PayloadMessage``."""

    arn: str
    stops: bool = False
    unreadable: str = ""
    """What is wrong with it; empty if the task can be passed on."""
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    credentials: tuple[tuple[str, Credentials], ...] = ()
    """Role types and the credentials sent for them."""

    @property
    def assignment(self) -> Assignment:
        """The assignment for the engine.

        A task that cannot be read becomes a stop whose reason says so: a host that does not hold
        the task reports it STOPPED with that reason. Do not use it for a task that the host holds.
        """
        if self.unreadable:
            return Assignment(
                task_arn=self.arn,
                desired_status=DesiredStatus.STOPPED,
                stopped_reason=reasons.unrecognized_task(self.unreadable),
                stop_code=_FAILED_TO_START,
            )
        desired = DesiredStatus.STOPPED if self.stops else DesiredStatus.RUNNING
        return Assignment(task_arn=self.arn, desired_status=desired, payload=self.payload)


def read(raw: msgspec.Raw) -> TaskOrder:
    """Parse one task.

    A task that should stop is not parsed any further: it can be stopped whatever else is wrong with
    it.

    Raises:
        UnusableMessage: it has no ARN, so that nothing can be done about it.
    """
    fields = f.read(raw, "task")
    arn = f.text(fields, "arn")
    if not arn or not arn.isprintable():
        raise UnusableMessage("arn missing or not a text")
    credentials = tuple(
        (role_type, found)
        for name, role_type in _ROLES
        if (found := messages.role(fields, name)) is not None
    )
    try:
        desired = _desired(fields)
        if desired is DesiredStatus.STOPPED:
            return TaskOrder(arn=arn, stops=True, credentials=credentials)
        for part in f.parts(fields, "elasticNetworkInterfaces"):
            validity.interface(f.read(part, "elasticNetworkInterfaces"))
        if b'"overrides"' in bytes(raw):
            _check_overrides(fields)
        payload = _normal(raw, fields)
    except UnusableMessage as error:
        return TaskOrder(arn=arn, unreadable=str(error))
    return TaskOrder(arn=arn, payload=payload, credentials=credentials)


def _desired(fields: Fields) -> DesiredStatus:
    word = f.text(fields, "desiredStatus")
    if word not in _DESIRED or (not word and "desiredStatus" in fields):
        shown = one_line(bytes(fields["desiredStatus"]).decode("utf-8", "replace"))
        raise UnusableMessage(f"desiredStatus {shown[:100]} is unknown")
    return _DESIRED[word]


def _check_overrides(fields: Fields) -> None:
    """Refuse container overrides of anything but the command, as Amazon's agent does."""
    for part in f.parts(fields, "containers"):
        container = f.read(part, "containers")
        if "overrides" not in container:
            continue
        told = f.text(container, "overrides", _OVERRIDES_LIMIT).encode("utf-8", "replace")
        if told or bytes(container["overrides"]) != b'""':
            name = f.text(container, "name")
            overrides = f.read(told or container["overrides"], f"overrides of container {name}")
            unknown = sorted(overrides.keys() - {"command"})
            if unknown:
                raise UnusableMessage(
                    f"overrides of container {name}: unknown field {unknown[0][:100]!r}"
                )


def _normal(raw: msgspec.Raw, fields: Fields) -> msgspec.Raw:
    """Return the payload without nulls and with our word for the desired status."""
    told = bytes(raw)
    if b"null" not in told and f.text(fields, "desiredStatus") in {"", DesiredStatus.RUNNING}:
        return raw
    try:
        task = msgspec.json.decode(told)
        task = _without_nulls(task)
        task["desiredStatus"] = DesiredStatus.RUNNING
        return msgspec.Raw(_encode(task))
    except (*BAD_JSON, UnicodeEncodeError) as error:
        raise UnusableMessage(one_line(str(error))) from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value
