"""Tags of scalable targets: TagResource, UntagResource, ListTagsForResource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access
from agent.controlplane.api.autoscaling import naming
from agent.controlplane.api.autoscaling.errors import (
    ResourceNotFoundException,
    TooManyTagsException,
    ValidationException,
)
from agent.controlplane.scaling import target as kinds
from agent.controlplane.scaling.target import ScalableTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.parts import Handlers, Parts

TAGS_MOST = 50
KEY_LENGTH = 128
VALUE_LENGTH = 256


def checked_tags(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return new tags, if they may be added to the old ones. Pure.

    Raises:
        ValidationException: a key or value is too long, or a key is reserved.
        TooManyTagsException: there would be too many.
    """
    for key, value in new.items():
        if not 1 <= len(key) <= KEY_LENGTH or len(value) > VALUE_LENGTH:
            raise ValidationException(
                f"A tag has a key of 1 to {KEY_LENGTH} characters and a value of at most "
                f"{VALUE_LENGTH}: {key[:KEY_LENGTH]}"
            )
        if key.lower().startswith("aws:"):
            raise ValidationException(f"Tags that begin with aws: are reserved: {key}")
    if len({**old, **new}) > TAGS_MOST:
        raise TooManyTagsException(f"A scalable target can have at most {TAGS_MOST} tags")
    return dict(new)


async def tag(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add tags, or give them new values."""

    def tagged(target: ScalableTarget) -> ScalableTarget:
        return replace(target, tags=target.tags | checked_tags(target.tags, request["Tags"]))

    await _change(parts, request["ResourceARN"], tagged)
    return {}


async def untag(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags; missing ones are ignored."""
    gone = frozenset(request["TagKeys"])

    def untagged(target: ScalableTarget) -> ScalableTarget:
        return replace(target, tags={k: v for k, v in target.tags.items() if k not in gone})

    await _change(parts, request["ResourceARN"], untagged)
    return {}


async def list_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a target."""
    return {"Tags": (await _of_arn(parts, request["ResourceARN"])).tags}


async def _change(
    parts: Parts, arn: str, decide: Callable[[ScalableTarget], ScalableTarget]
) -> None:
    target = await _of_arn(parts, arn)
    if await access.change(parts.store, ScalableTarget, target.key, decide) is None:
        raise _missing(arn)


async def _of_arn(parts: Parts, arn: str) -> ScalableTarget:
    async for found in access.scan(parts.store, ScalableTarget, kinds.TARGETS):
        if naming.target_arn(parts.names, found.record) == arn:
            return found.record
    raise _missing(arn)


def _missing(arn: str) -> ResourceNotFoundException:
    return ResourceNotFoundException(f"No scalable target has the ARN {arn[:255]}")


HANDLERS: Handlers = {
    "TagResource": tag,
    "UntagResource": untag,
    "ListTagsForResource": list_tags,
}
