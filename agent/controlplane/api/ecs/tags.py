"""Tags: TagResource, UntagResource, ListTagsForResource, and the rules for all tags.

Tags are part of the record of the tagged resource: a cluster, a service, a task, a task definition, a
container instance or a capacity provider. Those of a task set are part of its service's record.
Source of the rules: the Amazon ECS developer guide, "Tagging restrictions".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.agents.host_rules import TAG
from agent.controlplane.front.errors import (
    ClusterNotFoundException,
    InvalidParameterException,
    ResourceNotFoundException,
)
from agent.controlplane.names import parse_arn, revision_number, split_task_definition
from agent.controlplane.records import (
    ClusterRecord,
    InstanceRecord,
    TaskDefinitionRecord,
    TaskRecord,
)
from agent.controlplane.services.record import (
    NEVER,
    REPLACE_AFTER,
    REPLACE_MOST_S,
    ServiceRecord,
    replace_after_s,
)
from agent.controlplane.tasks import providers
from agent.controlplane.tasks.providers import CapacityProviderRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent.controlplane.names import Arn
    from agent.controlplane.parts import Handlers, Parts

TAG_LIMIT = 50
KEY_LIMIT = 128
VALUE_LIMIT = 256

_ALLOWED = TAG.pattern

Tagged = (
    CapacityProviderRecord
    | ClusterRecord
    | InstanceRecord
    | ServiceRecord
    | TaskDefinitionRecord
    | TaskRecord
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the record with an ARN is stored."""

    kind: type[Tagged]
    key: str
    task_set: str = ""
    """Id of the task set of the service that is tagged; empty for the record itself."""


def read_tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the tags of a request as a dict, in their order.

    Raises:
        InvalidParameterException: a tag breaks the rules, a key occurs twice, or there are too
            many.
    """
    read: dict[str, str] = {}
    for tag in tags:
        key, value = tag.get("key", ""), tag.get("value", "")
        _check(key, value)
        if key in read:
            raise InvalidParameterException(f"Duplicate tag keys found: {key}")
        read[key] = value
    if len(read) > TAG_LIMIT:
        raise InvalidParameterException(f"At most {TAG_LIMIT} tags are allowed.")
    return read


def check_service_tags(tags: Mapping[str, str]) -> None:
    """Raise ``InvalidParameterException`` if a tag that control follows has a value that it cannot follow."""
    if replace_after_s(tags) is None:
        raise InvalidParameterException(
            f"The tag {REPLACE_AFTER} of a service must be {NEVER}, or seconds from 0 to "
            f"{REPLACE_MOST_S}."
        )


def show_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the format of responses."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def _check(key: str, value: str) -> None:
    if not 1 <= len(key) <= KEY_LIMIT:
        raise InvalidParameterException(f"A tag key must have 1 to {KEY_LIMIT} characters.")
    if len(value) > VALUE_LIMIT:
        raise InvalidParameterException(f"A tag value must have at most {VALUE_LIMIT} characters.")
    if key.lower().startswith("aws:"):
        raise InvalidParameterException("A tag key must not begin with the reserved prefix aws:")
    if not _ALLOWED.fullmatch(key) or not _ALLOWED.fullmatch(value):
        raise InvalidParameterException(
            f"The tag {key!a} has characters that are not allowed: use letters, numbers, spaces "
            "and _ . : / = + - @"
        )


def _locate(text: str) -> _Place:
    arn = parse_arn(text)
    place = None if arn is None else _place_of(arn)
    if place is None:
        raise InvalidParameterException(f"Invalid identifier: {text[:255]} is not a taggable ARN.")
    return place


def _place_of(arn: Arn) -> _Place | None:
    match arn.kind, arn.path:
        case "cluster", (name,):
            key = records.cluster_key(name)
            return _Place(ClusterRecord, key)
        case "capacity-provider", (name,):
            return _Place(CapacityProviderRecord, providers.key_of(name))
        case "task", (cluster, task_id):
            return _Place(TaskRecord, records.task_key(cluster, task_id))
        case "task-set", (cluster, name, "ecs-svc", digits):
            key = records.service_key(cluster, name)
            return _Place(ServiceRecord, key, f"ecs-svc/{digits}")
        case "service", (cluster, name):
            return _Place(ServiceRecord, records.service_key(cluster, name))
        case "container-instance", (cluster, instance_id):
            key = records.instance_key(cluster, instance_id)
            return _Place(InstanceRecord, key)
        case "task-definition", (name,):
            return _place_of_definition(name)
        case _:
            return None


def _place_of_definition(name: str) -> _Place | None:
    split = split_task_definition(name)
    revision = revision_number(split[1] or "") if split is not None else None
    if split is None or revision is None:
        return None
    return _Place(TaskDefinitionRecord, records.task_definition_key(split[0], revision))


def _is_gone(record: Tagged) -> bool:
    """Return whether a record cannot be tagged any more; INACTIVE task definitions still can."""
    mortal = CapacityProviderRecord | ClusterRecord | InstanceRecord | ServiceRecord
    return isinstance(record, mortal) and record.status == "INACTIVE"


async def _change(
    parts: Parts, arn: str, decide: Callable[[dict[str, str]], dict[str, str]]
) -> dict[str, str]:
    place = _locate(arn)
    if place.task_set:
        return await _change_task_set(parts, place, arn, decide)

    def apply(record: Tagged) -> Tagged:
        if _is_gone(record) or record.arn != arn:
            raise _missing(place, arn)
        tags = decide(record.tags)
        if isinstance(record, ServiceRecord):
            check_service_tags(tags)
        return replace(record, tags=tags)

    changed = await access.change(parts.store, place.kind, place.key, apply)
    if changed is None:
        raise _missing(place, arn)
    return changed.tags


async def _change_task_set(
    parts: Parts, place: _Place, arn: str, decide: Callable[[dict[str, str]], dict[str, str]]
) -> dict[str, str]:
    """Change the tags of a task set, which is part of its service's record."""
    tags: dict[str, str] | None = None

    def apply(service: ServiceRecord) -> ServiceRecord:
        nonlocal tags
        tags = None
        sets = list(service.task_sets)
        for number, one in enumerate(sets):
            where = parts.names.task_set(service.cluster, service.name, one.digits)
            if one.id == place.task_set and where == arn and not _is_gone(service):
                tags = decide(one.tags)
                sets[number] = replace(one, tags=tags)
        return replace(service, task_sets=sets)

    await access.change(parts.store, ServiceRecord, place.key, apply)
    if tags is None:
        raise _missing(place, arn)
    return tags


def _missing(place: _Place, arn: str) -> Exception:
    if place.kind is ClusterRecord:
        return ClusterNotFoundException()
    return ResourceNotFoundException(f"The specified resource was not found: {arn}")


async def tag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add tags to a resource; an existing key gets the new value."""
    new = read_tags(request["tags"])

    def add(tags: dict[str, str]) -> dict[str, str]:
        merged = tags | new
        if len(merged) > TAG_LIMIT:
            raise InvalidParameterException(f"At most {TAG_LIMIT} tags are allowed.")
        return merged

    await _change(parts, request["resourceArn"], add)
    return {}


async def untag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags from a resource; missing keys are ignored."""
    gone = set(request["tagKeys"])
    await _change(
        parts,
        request["resourceArn"],
        lambda tags: {key: value for key, value in tags.items() if key not in gone},
    )
    return {}


async def list_tags_for_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a resource."""
    try:
        tags = await _change(parts, request["resourceArn"], lambda tags: tags)
    except ResourceNotFoundException as error:
        # ListTagsForResource does not declare that error.
        raise InvalidParameterException(str(error)) from None
    return {"tags": show_tags(tags)}


HANDLERS: Handlers = {
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
}
