"""Users: CreateUser, GetUser, ListUsers, DeleteUser, their tags, and the groups that they are never in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.iam import requests
from agent.controlplane.front.errors import UnsupportedFeatureException
from agent.controlplane.iam import user_records, users
from agent.controlplane.iam.user_records import IamUserRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts

_NO_BOUNDARY: Final = "only policies of the user itself limit it here"
_QUOTA: Final = "TagsPerUser"


async def create_user(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a user without keys and policies, who may do nothing yet."""
    name = requests.name(request, "UserName")
    requests.refuse(request, "PermissionsBoundary", _NO_BOUNDARY)
    if parts.is_open:
        raise UnsupportedFeatureException(
            "This control endpoint runs with --open, where everyone may make all calls without a key: users "
            "would limit nobody. Start it without --open first."
        )
    record = IamUserRecord(
        id=user_records.new_user_id(),
        name=name,
        path=requests.path(request),
        created_at=parts.clock(),
        tags=requests.tags(request.get("Tags", ()), {}, _QUOTA),
    )
    await users.create(parts.store, record)
    await requests.applied(parts, user_records.user_key(name))
    return {"User": _shown(record, parts.names)}


async def get_user(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a user, or who calls."""
    record = await users.get(parts.store, requests.user_name(request))
    return {"User": _shown(record, parts.names)}


async def list_users(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return users without their tags, as IAM does."""
    prefix = request.get("PathPrefix", "/")
    found = [user for user in await users.every(parts.store) if user.path.startswith(prefix)]
    shown, more = requests.page("ListUsers", request, found, lambda user: user.name)
    return {"Users": [_shown(user, parts.names) | {"Tags": None} for user in shown], **more}


async def delete_user(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a user that has neither keys nor policies."""
    name = requests.name(request, "UserName")
    await users.delete(parts.store, name)
    await requests.applied(parts, user_records.user_key(name))
    return {}


async def tag_user(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add tags to a user, or replace their values."""
    await _change(
        parts,
        request,
        lambda old: replace(old, tags=requests.tags(request["Tags"], old.tags, _QUOTA)),
    )
    return {}


async def untag_user(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags of a user; those that it does not have are ignored."""
    gone = {key.lower() for key in request["TagKeys"]}

    def decide(old: IamUserRecord) -> IamUserRecord:
        kept = {key: value for key, value in old.tags.items() if key.lower() not in gone}
        return replace(old, tags=kept)

    await _change(parts, request, decide)
    return {}


async def list_user_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a user."""
    record = await users.get(parts.store, requests.user_name(request))
    shown, more = requests.page(
        "ListUserTags", request, requests.shown_tags(record.tags), lambda tag: tag["Key"]
    )
    return {"Tags": shown, **more}


async def list_groups(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return no group of a user, because there are none; raises ``UserMissing``."""
    await users.get(parts.store, requests.user_name(request))
    return {"Groups": [], "IsTruncated": False}


async def _change(
    parts: Parts, request: dict[str, Any], decide: Callable[[IamUserRecord], IamUserRecord]
) -> None:
    name = requests.user_name(request)
    await users.change(parts.store, name, decide)
    await requests.applied(parts, user_records.user_key(name))


def _shown(record: IamUserRecord, names: Names) -> dict[str, Any]:
    return {
        "Path": record.path,
        "UserName": record.name,
        "UserId": record.id,
        "Arn": record.arn(names),
        "CreateDate": record.created_at,
        "Tags": requests.shown_tags(record.tags) or None,
    }


HANDLERS: Handlers = {
    "CreateUser": create_user,
    "DeleteUser": delete_user,
    "GetUser": get_user,
    "ListGroupsForUser": list_groups,
    "ListUserTags": list_user_tags,
    "ListUsers": list_users,
    "TagUser": tag_user,
    "UntagUser": untag_user,
}
