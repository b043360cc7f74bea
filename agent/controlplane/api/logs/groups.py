"""Log groups: create, delete, describe, and their retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.logs.naming import checked_group, group_arn, group_name, group_of_arn
from agent.controlplane.api.logs.tags import checked_tags
from agent.controlplane.front.errors import InvalidParameterException
from agent.controlplane.front.pages import start_after, token
from agent.controlplane.log_store.changes import retained
from agent.controlplane.log_store.contract import GroupMissing

if TYPE_CHECKING:
    from agent.controlplane.log_store.contract import Group
    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts

PAGE: Final = 50
# fmt: off
RETENTION_DAYS: Final = frozenset({
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288,
    3653,
})
# fmt: on


async def create_log_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Make a log group."""
    name = group_name(request)
    if request.get("kmsKeyId"):
        raise InvalidParameterException(
            "'kmsKeyId' is not supported: log events lie on the disk of control; leave it out, and "
            "encrypt that disk."
        )
    if request.get("logGroupClass", "STANDARD") != "STANDARD":
        raise InvalidParameterException(
            "'logGroupClass' is not supported but for STANDARD: all log groups are alike here; leave "
            "it out."
        )
    if request.get("deletionProtectionEnabled"):
        raise InvalidParameterException(
            "'deletionProtectionEnabled' is not supported; leave it out."
        )
    await parts.logs().create_group(name, tags=checked_tags(request.get("tags", {})))
    return {}


async def delete_log_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a log group with all its events."""
    await parts.logs().delete_group(group_name(request))
    return {}


async def describe_log_groups(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe log groups by name, a page at a time."""
    prefix, pattern = request.get("logGroupNamePrefix", ""), request.get("logGroupNamePattern", "")
    if prefix and pattern:
        raise InvalidParameterException(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
        )
    store = parts.logs()
    if request.get("logGroupIdentifiers"):
        named = [_named(parts.names, text) for text in request["logGroupIdentifiers"]]
        found = [group for name in named for group in await _existing(parts, name)]
        return {"logGroups": [_show(parts.names, group) for group in found]}
    if request.get("logGroupClass", "STANDARD") != "STANDARD":
        return {"logGroups": []}
    size = request.get("limit", PAGE)
    groups = await store.groups(
        prefix=prefix,
        pattern=pattern,
        after=start_after("DescribeLogGroups", _filters(request)) or "",
        most=size + 1,
    )
    answer: dict[str, Any] = {"logGroups": [_show(parts.names, group) for group in groups[:size]]}
    if len(groups) > size:
        last = groups[size - 1].name
        answer["nextToken"] = token("DescribeLogGroups", _filters(request), last)
    return answer


async def put_retention_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set how long events of a group are kept."""
    days = request["retentionInDays"]
    if days not in RETENTION_DAYS:
        raise InvalidParameterException(
            "The specified retention policy is invalid: retentionInDays must be one of "
            f"{', '.join(map(str, sorted(RETENTION_DAYS)))}."
        )
    await parts.logs().change_group(group_name(request), retained(days))
    return {}


async def delete_retention_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Have events of a group kept as long as control keeps them by itself."""
    await parts.logs().change_group(group_name(request), retained(None))
    return {}


def _named(names: Names, text: str) -> str:
    if text.startswith("arn:"):
        return group_of_arn(names, text)
    return checked_group(text, "logGroupIdentifiers")


async def _existing(parts: Parts, name: str) -> list[Group]:
    try:
        return [await parts.logs().group(name)]
    except GroupMissing:
        return []


def _filters(request: dict[str, Any]) -> dict[str, Any]:
    """Return what a token of a page is bound to: all but how large the page is."""
    return {name: value for name, value in request.items() if name != "limit"}


def _show(names: Names, group: Group) -> dict[str, Any]:
    arn = group_arn(names, group.name)
    return {
        "logGroupName": group.name,
        "creationTime": group.created_ms,
        "retentionInDays": group.retention_days,
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "storedBytes": group.stored_bytes,
        "logGroupClass": "STANDARD",
        "logGroupArn": arn,
        "deletionProtectionEnabled": False,
    }


HANDLERS: Handlers = {
    "CreateLogGroup": create_log_group,
    "DeleteLogGroup": delete_log_group,
    "DescribeLogGroups": describe_log_groups,
    "PutRetentionPolicy": put_retention_policy,
    "DeleteRetentionPolicy": delete_retention_policy,
}
