"""Tags of rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.events import stored
from agent.controlplane.api.events.errors import ResourceNotFoundException, ValidationException

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts

TAGS_MOST: Final = 50
_SHOWN: Final = 128


async def list_tags_for_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a rule."""
    record = await stored.find(parts, _named(parts, request["ResourceARN"]))
    return {"Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()]}


async def tag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set tags of a rule."""
    given = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    await stored.change(
        parts,
        _named(parts, request["ResourceARN"]),
        lambda record: replace(record, tags=with_tags(record.tags, given)),
    )
    return {}


async def untag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags of a rule."""
    gone = set(request["TagKeys"])
    await stored.change(
        parts,
        _named(parts, request["ResourceARN"]),
        lambda record: replace(
            record, tags={key: value for key, value in record.tags.items() if key not in gone}
        ),
    )
    return {}


def with_tags(tags: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Return tags with more; raises ``ValidationException``."""
    if any(not key or key.lower().startswith("aws:") for key in given):
        raise ValidationException("Tag keys must not be empty, nor begin with 'aws:'.")
    if len(tags | given) > TAGS_MOST:
        raise ValidationException(f"A rule can have at most {TAGS_MOST} tags.")
    return tags | given


def _named(parts: Parts, arn: str) -> str:
    prefix = parts.names.rule("")
    if not arn.startswith(prefix):
        raise ResourceNotFoundException(
            f"{arn[:_SHOWN]} is not the ARN of a rule of this control endpoint."
        )
    return stored.name(parts, {"Name": arn.removeprefix(prefix)})


HANDLERS: Handlers = {
    "ListTagsForResource": list_tags_for_resource,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
}
