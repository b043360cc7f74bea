"""Task definitions: register, describe, list with families, deregister.

Revisions of a family count up from 1 and are never used again. A deregistered revision is INACTIVE:
it can be described and its tasks go on, but nothing new starts from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs.naming import names_it
from agent.controlplane.api.ecs.tags import read_tags, show_tags
from agent.controlplane.authorization import caller
from agent.controlplane.definition.rules import check_definition, check_family, compatibilities
from agent.controlplane.definition.support import required_attributes
from agent.controlplane.front.errors import ClientException, InvalidParameterException
from agent.controlplane.front.pages import page_size, start_after, token
from agent.controlplane.names import revision_number, split_task_definition
from agent.controlplane.records import FamilyRecord, TaskDefinitionRecord
from agent.controlplane.store.contract import Put, absent, unchanged

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.store.contract import Store

UNKNOWN = "Unable to describe task definition."
_AT_ONCE = 16
"""How many revisions one step of a search reads."""


class _Listed(Struct, rename="camel"):
    """The fields of a definition that are needed for lists; others are not decoded."""

    arn: str
    family: str
    status: str = "ACTIVE"


async def register_task_definition(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Register a new revision of a family."""
    definition = check_definition(request)
    family = request["family"]
    new = TaskDefinitionRecord(
        arn="",
        family=family,
        revision=0,
        definition=definition,
        registered_at=parts.clock(),
        registered_by=caller.principal(parts.names),
        requires_attributes=required_attributes(definition),
        compatibilities=compatibilities(definition),
        tags=read_tags(request.get("tags", [])),
    )
    key = records.family_key(family)
    tries = access.ConflictRetries(key)
    while True:
        counter = await access.find(parts.store, FamilyRecord, key)
        revision = counter.record.last_revision + 1 if counter else 1
        new = replace(new, revision=revision, arn=parts.names.task_definition(family, revision))
        result = await parts.store.txn(
            [unchanged(counter.kv) if counter else absent(key)],
            [
                Put(key, records.encode(FamilyRecord(family=family, last_revision=revision))),
                Put(records.task_definition_key(family, revision), records.encode(new)),
            ],
        )
        if result.succeeded:
            return {"taskDefinition": show(new), "tags": show_tags(new.tags)}
        await tries.again()


async def find_task_definition(parts: Parts, text: str) -> TaskDefinitionRecord | None:
    """Return the definition that ``family``, ``family:revision`` or an ARN names.

    A family alone names its newest ACTIVE revision, and so does an ARN without a revision. None
    when there is none.

    Raises:
        InvalidParameterException: the text is malformed, or an ARN of something else.
    """
    family, revision = split_revision(text)
    if revision is None:
        record = await newest_active(parts.store, family)
        if record is None or not names_it(text, record.arn.rpartition(":")[0]):
            return None
        return record
    key = records.task_definition_key(family, revision)
    found = await access.find(parts.store, TaskDefinitionRecord, key)
    return found.record if found and names_it(text, found.record.arn) else None


def split_revision(text: str) -> tuple[str, int | None]:
    """Return family and revision; raises ``InvalidParameterException`` for a malformed name."""
    split = split_task_definition(text)
    if split is None:
        raise InvalidParameterException(f"Invalid task definition: {text[:255]}")
    family, revision = split
    if revision is None:
        return family, None
    number = revision_number(revision)
    if number is None:
        raise InvalidParameterException(f"Invalid revision number. Number: {revision[:255]}")
    return family, number


async def newest_active(store: Store, family: str) -> TaskDefinitionRecord | None:
    """Return the newest ACTIVE revision of a family, or None.

    Goes down from the newest, because that is nearly always the one: a family may have thousands.
    """
    counter = await access.find(store, FamilyRecord, records.family_key(family))
    last = counter.record.last_revision if counter else 0
    for top in range(last, 0, -_AT_ONCE):
        revisions = range(top, max(top - _AT_ONCE, 0), -1)
        keys = [records.task_definition_key(family, revision) for revision in revisions]
        found = await access.find_many(store, TaskDefinitionRecord, keys)
        for key in keys:
            if key in found and found[key].record.status == "ACTIVE":
                return found[key].record
    return None


async def describe_task_definition(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe one revision."""
    record = await find_task_definition(parts, request["taskDefinition"])
    if record is None:
        raise ClientException(UNKNOWN)
    response: dict[str, Any] = {"taskDefinition": show(record)}
    if "TAGS" in request.get("include", []):
        response["tags"] = show_tags(record.tags)
    return response


async def deregister_task_definition(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set one revision to INACTIVE; an INACTIVE one stays unchanged."""
    text = request["taskDefinition"]
    family, revision = split_revision(text)
    if revision is None:
        raise ClientException("Revision is missing.")
    if not names_it(text, parts.names.task_definition(family, revision)):
        raise ClientException(UNKNOWN)
    now = parts.clock()
    record = await access.change(
        parts.store,
        TaskDefinitionRecord,
        records.task_definition_key(family, revision),
        lambda old: (
            replace(old, status="INACTIVE", deregistered_at=now) if old.status == "ACTIVE" else old
        ),
    )
    if record is None:
        raise ClientException(UNKNOWN)
    return {"taskDefinition": show(record)}


async def list_task_definitions(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List the ARNs of the revisions of one family, or of all, in pages."""
    size = page_size(request)
    after = start_after("ListTaskDefinitions", request)
    status = request.get("status") or "ACTIVE"
    prefix = records.TASK_DEFINITIONS
    if request.get("familyPrefix"):
        check_family(request["familyPrefix"])
        prefix = records.task_definitions_prefix(request["familyPrefix"])
    newest_first = request.get("sort") == "DESC"
    matching: list[tuple[str, str]] = []
    async for kv, listed in access.scan(
        parts.store, _Listed, prefix, start_after=None if newest_first else after
    ):
        if len(matching) > size and not newest_first:
            break
        if listed.status == status:
            matching.append((kv.key, listed.arn))
    if newest_first:
        matching.reverse()
        matching = [item for item in matching if after is None or item[0] < after]
    response: dict[str, Any] = {"taskDefinitionArns": [arn for _, arn in matching[:size]]}
    if len(matching) > size:
        response["nextToken"] = token("ListTaskDefinitions", request, matching[size - 1][0])
    return response


async def list_task_definition_families(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List families: ACTIVE families have an ACTIVE revision, INACTIVE ones have none."""
    size = page_size(request)
    after = start_after("ListTaskDefinitionFamilies", request)
    wanted = request.get("status") or "ALL"
    prefix = records.TASK_DEFINITIONS + request.get("familyPrefix", "")
    active: dict[str, bool] = {}
    async for _, listed in access.scan(parts.store, _Listed, prefix):
        active[listed.family] = active.get(listed.family, False) or listed.status == "ACTIVE"
    families = [
        family
        for family, is_active in sorted(active.items())
        if wanted in ("ALL", "ACTIVE" if is_active else "INACTIVE")
        and (after is None or family > after)
    ]
    response: dict[str, Any] = {"families": families[:size]}
    if len(families) > size:
        response["nextToken"] = token("ListTaskDefinitionFamilies", request, families[size - 1])
    return response


def show(record: TaskDefinitionRecord) -> dict[str, Any]:
    """Return a definition in the format of responses."""
    return {
        **record.definition,
        "taskDefinitionArn": record.arn,
        "family": record.family,
        "revision": record.revision,
        "status": record.status,
        "requiresAttributes": [{"name": name} for name in record.requires_attributes],
        "compatibilities": record.compatibilities,
        "registeredAt": record.registered_at,
        "deregisteredAt": record.deregistered_at or None,
        "deleteRequestedAt": record.delete_requested_at or None,
        "registeredBy": record.registered_by,
    }


HANDLERS: Handlers = {
    "RegisterTaskDefinition": register_task_definition,
    "DescribeTaskDefinition": describe_task_definition,
    "DeregisterTaskDefinition": deregister_task_definition,
    "ListTaskDefinitions": list_task_definitions,
    "ListTaskDefinitionFamilies": list_task_definition_families,
}
