"""Groups of schedules, and their tags. ``default`` is always there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.scheduler import deletions, requests
from agent.controlplane.api.scheduler.errors import (
    ConflictException,
    ResourceNotFoundException,
    ValidationException,
)
from agent.controlplane.schedules.record import (
    DEFAULT_GROUP,
    GROUPS,
    SCHEDULES,
    GroupRecord,
    group_key,
)
from agent.controlplane.store.contract import Delete, DeletePrefix, Put, absent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.controlplane.parts import Handlers, Parts

_WHAT: Final = "schedule group"
_SHOWN: Final = 128


async def create_schedule_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a group; a call that is repeated with its token changes nothing."""
    name, token = requests.name(request, "Name"), requests.client_token(request)
    now = parts.clock()
    record = GroupRecord(
        name=name,
        arn=parts.names.schedule_group(name),
        tags=requests.with_tags({}, requests.tags(request.get("Tags", ())), _WHAT),
        client_token=token,
        created_at=now,
        changed_at=now,
    )
    key = group_key(name)
    if (
        name != DEFAULT_GROUP
        and (await parts.store.txn([absent(key)], [Put(key, records.encode(record))])).succeeded
    ):
        return {"ScheduleGroupArn": record.arn}
    known = await access.find(parts.store, GroupRecord, key)
    is_repeated = known is not None and token and known.record.client_token == token
    if known is None or not is_repeated or known.record.tags != record.tags:
        raise ConflictException(f"Schedule group {name} already exists.")
    return {"ScheduleGroupArn": record.arn}


async def get_schedule_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a group."""
    return _shown(await find(parts, requests.name(request, "Name")))


async def delete_schedule_group(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a group and its schedules, at once; a call that is repeated with its token changes nothing."""
    name = requests.name(request, "Name")
    if name == DEFAULT_GROUP:
        raise ValidationException("The default schedule group cannot be deleted.")
    arn, token = parts.names.schedule_group(name), requests.client_token(request)
    if not await deletions.was_done(parts, arn, token):
        await find(parts, name)
        then = [
            Delete(group_key(name)),
            DeletePrefix(f"{SCHEDULES}{name}/"),
            *deletions.noted(parts, arn, token),
        ]
        await parts.store.txn([], then)
    return {}


async def list_schedule_groups(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a page of groups by name."""
    prefix = request.get("NamePrefix", "")

    async def every(after: str | None) -> AsyncIterator[GroupRecord]:
        default = _default(parts)
        is_told = after is not None and after >= default.key
        async for _, record in access.scan(parts.store, GroupRecord, GROUPS, start_after=after):
            if not is_told and record.key > default.key:
                yield default
                is_told = True
            is_told = is_told or record.key == default.key
            yield record
        if not is_told:
            yield default

    found, token = await requests.page(
        "ListScheduleGroups",
        request,
        filters=("NamePrefix",),
        every=every,
        is_wanted=lambda record: record.name.startswith(prefix),
    )
    return {"ScheduleGroups": [_shown(record) for record in found], "NextToken": token}


async def list_tags_for_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a group."""
    record = await find(parts, _named(parts, request["ResourceArn"]))
    return {"Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()]}


async def tag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set tags of a group."""
    given = requests.tags(request["Tags"])
    return await _change_tags(
        parts, request["ResourceArn"], lambda tags: requests.with_tags(tags, given, _WHAT)
    )


async def untag_resource(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags of a group."""
    gone = set(request["TagKeys"])
    return await _change_tags(
        parts,
        request["ResourceArn"],
        lambda tags: {key: value for key, value in tags.items() if key not in gone},
    )


async def find(parts: Parts, name: str) -> GroupRecord:
    """Return a group; raises ``ResourceNotFoundException``."""
    found = await access.find(parts.store, GroupRecord, group_key(name))
    if found is not None:
        return found.record
    if name == DEFAULT_GROUP:
        return _default(parts)
    raise ResourceNotFoundException(f"Schedule group {name} does not exist.")


def _default(parts: Parts) -> GroupRecord:
    return GroupRecord(name=DEFAULT_GROUP, arn=parts.names.schedule_group(DEFAULT_GROUP))


async def _change_tags(
    parts: Parts, arn: str, change: Callable[[dict[str, str]], dict[str, str]]
) -> dict[str, Any]:
    name = _named(parts, arn)
    await find(parts, name)
    key = group_key(name)
    if name == DEFAULT_GROUP:
        # It gets a record when there is something to keep.
        await parts.store.txn([absent(key)], [Put(key, records.encode(_default(parts)))])
    changed = await access.change(
        parts.store,
        GroupRecord,
        key,
        lambda record: replace(record, tags=change(record.tags), changed_at=parts.clock()),
    )
    if changed is None:
        raise ResourceNotFoundException(f"Schedule group {name} does not exist.")
    return {}


def _named(parts: Parts, arn: str) -> str:
    prefix = parts.names.schedule_group("")
    if not arn.startswith(prefix):
        raise ValidationException(
            f"{arn[:_SHOWN]} is not the ARN of a schedule group of this control endpoint."
        )
    return requests.name({"ResourceArn": arn.removeprefix(prefix)}, "ResourceArn")


def _shown(record: GroupRecord) -> dict[str, Any]:
    return {
        "Arn": record.arn,
        "Name": record.name,
        "State": "ACTIVE",
        "CreationDate": record.created_at or None,
        "LastModificationDate": record.changed_at or None,
    }


HANDLERS: Handlers = {
    "CreateScheduleGroup": create_schedule_group,
    "GetScheduleGroup": get_schedule_group,
    "DeleteScheduleGroup": delete_schedule_group,
    "ListScheduleGroups": list_schedule_groups,
    "ListTagsForResource": list_tags_for_resource,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
}
