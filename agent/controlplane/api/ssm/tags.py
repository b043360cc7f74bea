"""Tags of parameters: AddTagsToResource, RemoveTagsFromResource, ListTagsForResource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api import tag_lists
from agent.controlplane.api.ssm import names as parameter_names
from agent.controlplane.api.ssm.errors import (
    InvalidResourceId,
    InvalidResourceType,
    ParameterNotFound,
    TooManyTagsError,
    ValidationException,
)
from agent.controlplane.secrets import parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.secrets.secret_records import ParameterRecord

_SHOWN: Final = 256


def with_tags(old: Mapping[str, str], given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return tags of a parameter with those of a request; raises ``ApiError``."""
    return tag_lists.merged(old, given, invalid=ValidationException, too_many=TooManyTagsError)


async def add_tags_to_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set tags of a parameter."""
    given = request["Tags"]
    name = (await _found(parts, request)).name
    if not await parameters.change_tags(parts.keeper(), name, lambda old: with_tags(old, given)):
        raise _missing(name)
    return {}


async def remove_tags_from_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags of a parameter."""
    gone = frozenset(request["TagKeys"])
    name = (await _found(parts, request)).name
    if not await parameters.change_tags(
        parts.keeper(), name, lambda old: tag_lists.without(old, gone)
    ):
        raise _missing(name)
    return {}


async def list_tags_for_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a parameter."""
    return {"TagList": tag_lists.shown((await _found(parts, request)).tags)}


async def _found(parts: Parts, request: Mapping[str, Any]) -> ParameterRecord:
    """Return the parameter that a request names, by its name or ARN; raises ``ApiError``."""
    kind, given = request["ResourceType"], request["ResourceId"]
    if kind != "Parameter":
        raise InvalidResourceType(
            f"{kind[:_SHOWN]} is not served by this control endpoint; only Parameter is."
        )
    try:
        asked = parameter_names.asked(given, parts.names)
    except ParameterNotFound:
        raise _missing(given) from None
    find = parameters.find_by_arn_name if asked.is_of_arn else parameters.find
    record = None if asked.selector else await find(parts.keeper(), asked.name)
    if record is None:
        raise _missing(given)
    return record


def _missing(name: str) -> InvalidResourceId:
    return InvalidResourceId(f"There is no parameter {name[:_SHOWN]}.")


HANDLERS: Handlers = {
    "AddTagsToResource": add_tags_to_resource,
    "ListTagsForResource": list_tags_for_resource,
    "RemoveTagsFromResource": remove_tags_from_resource,
}
