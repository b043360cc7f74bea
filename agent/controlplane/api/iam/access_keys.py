"""Access keys of users: CreateAccessKey, UpdateAccessKey, ListAccessKeys, DeleteAccessKey.

A key is accepted, or refused, from the moment at which the call that changes it is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.api.iam import requests
from agent.controlplane.api.iam.errors import ValidationError
from agent.controlplane.iam import user_records, users

if TYPE_CHECKING:
    from agent.controlplane.iam.user_records import AccessKeyRecord
    from agent.controlplane.parts import Handlers, Parts

_ACTIVE, _INACTIVE = "Active", "Inactive"


async def create_access_key(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Give a user another key; its secret is in this answer alone."""
    name = requests.user_name(request)
    key, secret = await users.add_key(parts.keeper(), name, parts.clock())
    await requests.applied(parts, user_records.user_key(name))
    return {"AccessKey": _shown(name, key) | {"SecretAccessKey": secret}}


async def update_access_key(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Have a key be refused, or accepted again."""
    name = requests.user_name(request)
    if request["Status"] not in (_ACTIVE, _INACTIVE):
        raise ValidationError(f"Status must be {_ACTIVE} or {_INACTIVE} here.")
    is_active = request["Status"] == _ACTIVE
    await users.set_active(parts.store, name, request["AccessKeyId"], is_active=is_active)
    await requests.applied(parts, user_records.user_key(name))
    return {}


async def list_access_keys(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a user, without their secrets."""
    record = await users.get(parts.store, requests.user_name(request))
    shown, more = requests.page("ListAccessKeys", request, record.keys, lambda key: key.id)
    return {"AccessKeyMetadata": [_shown(record.name, key) for key in shown], **more}


async def delete_access_key(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove a key for good."""
    name = requests.user_name(request)
    await users.remove_key(parts.store, name, request["AccessKeyId"])
    await requests.applied(parts, user_records.user_key(name))
    return {}


def _shown(user: str, key: AccessKeyRecord) -> dict[str, Any]:
    return {
        "UserName": user,
        "AccessKeyId": key.id,
        "Status": _ACTIVE if key.is_active else _INACTIVE,
        "CreateDate": key.created_at,
    }


HANDLERS: Handlers = {
    "CreateAccessKey": create_access_key,
    "DeleteAccessKey": delete_access_key,
    "ListAccessKeys": list_access_keys,
    "UpdateAccessKey": update_access_key,
}
