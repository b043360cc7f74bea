"""Names and ARNs of log groups and streams in requests and answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from agent import escapes
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.log_store.rules import GROUP_NAME, NAME_MOST, STREAM_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.names import Names

_SHOWN: Final = 64
_ARN: Final = re.compile(
    r"arn:(aws[a-z-]*):logs:([a-z0-9-]+):([0-9]{12}):log-group:([^:*]+)(?::\*)?"
)


def group_name(request: Mapping[str, Any], member: str = "logGroupName") -> str:
    """Return the name of a group in a request.

    Raises:
        InvalidParameterException: it is not a valid name.
    """
    return checked_group(request[member], member)


def checked_group(name: str, member: str) -> str:
    """Return a group's name; raises ``InvalidParameterException`` for an invalid one."""
    _check(name, member, GROUP_NAME, r"[\.\-_/#A-Za-z0-9]+")
    return name


def stream_name(request: Mapping[str, Any], member: str = "logStreamName") -> str:
    """Return the name of a stream in a request.

    Raises:
        InvalidParameterException: it is not a valid name.
    """
    return checked_stream(request[member], member)


def checked_stream(name: str, member: str) -> str:
    """Return a stream's name; raises ``InvalidParameterException`` for an invalid one."""
    _check(name, member, STREAM_NAME, "[^:*]* and hold no control characters")
    return name


def group_named(names: Names, request: Mapping[str, Any]) -> str:
    """Return the name of the group that ``logGroupName`` or ``logGroupIdentifier`` gives.

    Raises:
        InvalidParameterException: neither does, or both do, or it belongs to another control.
    """
    given, identifier = request.get("logGroupName"), request.get("logGroupIdentifier")
    if (given is None) == (identifier is None):
        raise InvalidParameterException(
            "Exactly one of logGroupName and logGroupIdentifier must be given."
        )
    if identifier is None:
        return group_name(request)
    if identifier.startswith("arn:"):
        return group_of_arn(names, identifier)
    return checked_group(identifier, "logGroupIdentifier")


def group_of_arn(names: Names, arn: str) -> str:
    """Return the name of the group of an ARN, with or without ``:*`` at its end.

    Raises:
        InvalidParameterException: it is not an ARN of a log group of this control.
    """
    found = _ARN.fullmatch(arn)
    owner = (names.partition, names.region, names.account)
    if found is None or found.group(1, 2, 3) != owner:
        raise InvalidParameterException(
            f"'{escapes.shown(arn[:255])}' is not an ARN of a log group of this control."
        )
    return checked_group(found[4], "resourceArn")


def group_arn(names: Names, name: str) -> str:
    """Return the ARN of a group, without ``:*``."""
    return f"arn:{names.partition}:logs:{names.region}:{names.account}:log-group:{name}"


def stream_arn(names: Names, group: str, name: str) -> str:
    """Return the ARN of a stream."""
    return f"{group_arn(names, group)}:log-stream:{name}"


def _check(name: str, member: str, pattern: re.Pattern[str], words: str) -> None:
    if 1 <= len(name) <= NAME_MOST and pattern.fullmatch(name):
        return
    raise InvalidParameterException(
        f"1 validation error detected: Value '{escapes.shown(name[:_SHOWN])}' at '{member}' failed to "
        f"satisfy constraint: Member must have 1 to {NAME_MOST} characters and satisfy regular "
        f"expression pattern: {words}"
    )
