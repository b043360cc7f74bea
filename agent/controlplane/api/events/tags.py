"""Tags of rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.events import stored
from agent.controlplane.api.events.errors import ResourceNotFoundException
from agent.controlplane.api.scheduler import requests

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts

_SHOWN: Final = 128


async def list_tags_for_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a rule."""
    record = await stored.find(parts, _named(parts, request["ResourceARN"]))
    return {"Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()]}


async def tag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set tags of a rule."""
    given = requests.tags(request["Tags"])
    await stored.change(
        parts,
        _named(parts, request["ResourceARN"]),
        lambda record: replace(record, tags=requests.with_tags(record.tags, given, stored.WHAT)),
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
