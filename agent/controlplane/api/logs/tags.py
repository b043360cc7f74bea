"""Tags of log groups, by ARN and, as clients of old do, by name.

Source of the rules: the API reference of CloudWatch Logs, TagResource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.agents.host_rules import TAG
from agent.controlplane.api.logs.errors import TooManyTagsException
from agent.controlplane.api.logs.naming import group_name, group_of_arn
from agent.controlplane.front.errors import InvalidParameterException

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from agent.controlplane.log_store.contract import Group
    from agent.controlplane.parts import Handlers, Parts

TAGS_MOST: Final = 50
KEY_MOST: Final = 128
VALUE_MOST: Final = 256


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags of a request.

    Raises:
        InvalidParameterException: one breaks the rules.
    """
    for key, value in tags.items():
        if not 1 <= len(key) <= KEY_MOST or len(value) > VALUE_MOST:
            raise InvalidParameterException(
                f"A tag key must have 1 to {KEY_MOST} characters, a tag value at most {VALUE_MOST}."
            )
        if key.lower().startswith("aws:"):
            raise InvalidParameterException("A tag key must not begin with the reserved aws:")
        if not TAG.pattern.fullmatch(key) or not TAG.pattern.fullmatch(value):
            raise InvalidParameterException(f"The tag {key!a} may have {TAG.words}.")
    return dict(tags)


async def tag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add tags to a group by its ARN."""
    await _add(parts, group_of_arn(parts.names, request["resourceArn"]), request["tags"])
    return {}


async def untag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags from a group by its ARN."""
    await _remove(parts, group_of_arn(parts.names, request["resourceArn"]), request["tagKeys"])
    return {}


async def list_tags_for_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a group by its ARN."""
    name = group_of_arn(parts.names, request["resourceArn"])
    return {"tags": (await parts.logs().group(name)).tags}


async def tag_log_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add tags to a group by its name."""
    await _add(parts, group_name(request), request["tags"])
    return {}


async def untag_log_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags from a group by its name."""
    await _remove(parts, group_name(request), request["tags"])
    return {}


async def list_tags_log_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a group by its name."""
    return {"tags": (await parts.logs().group(group_name(request))).tags}


async def _add(parts: Parts, name: str, tags: Mapping[str, str]) -> None:
    new = checked_tags(tags)

    def add(group: Group) -> Group:
        merged = group.tags | new
        if len(merged) > TAGS_MOST:
            raise TooManyTagsException(f"A log group has at most {TAGS_MOST} tags.")
        return replace(group, tags=merged)

    await parts.logs().change_group(name, add)


async def _remove(parts: Parts, name: str, keys: Collection[str]) -> None:
    gone = set(keys)
    await parts.logs().change_group(
        name,
        lambda group: replace(group, tags={k: v for k, v in group.tags.items() if k not in gone}),
    )


HANDLERS: Handlers = {
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
    "TagLogGroup": tag_log_group,
    "UntagLogGroup": untag_log_group,
    "ListTagsLogGroup": list_tags_log_group,
}
