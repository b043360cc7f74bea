"""Roles: CreateRole, GetRole, ListRoles, UpdateRole, UpdateAssumeRolePolicy, DeleteRole, and their tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from msgspec.structs import replace

from agent.controlplane.api.iam import requests
from agent.controlplane.api.iam.errors import LimitExceededException, ValidationError
from agent.controlplane.iam import documents, role_records, stored
from agent.controlplane.iam.role_records import IamRoleRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts

_SESSION_LEAST_S, _SESSION_MOST_S = 3600, 43_200
_NO_BOUNDARY: Final = "only policies of the role itself limit it here"


async def create_role(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a role without policies."""
    name = requests.role_name(request)
    requests.refuse(request, "PermissionsBoundary", _NO_BOUNDARY)
    record = IamRoleRecord(
        id=role_records.new_role_id(),
        name=name,
        path=requests.path(request),
        trust=_trust(request["AssumeRolePolicyDocument"]),
        description=request.get("Description", ""),
        max_session_s=_session_s(request, role_records.SESSION_S),
        created_at=parts.clock(),
        tags=requests.tags(request.get("Tags", ()), {}),
    )
    await stored.create(parts.store, record)
    await requests.applied(parts, role_records.role_key(name))
    return {"Role": _shown(record, parts.names)}


async def get_role(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a role."""
    record = await stored.get(parts.store, requests.role_name(request))
    return {"Role": _shown(record, parts.names)}


async def list_roles(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return roles without their tags, as IAM does."""
    prefix = request.get("PathPrefix", "/")
    found = [role for role in await stored.every(parts.store) if role.path.startswith(prefix)]
    shown, more = requests.page("ListRoles", request, found, lambda role: role.name)
    return {"Roles": [_shown(role, parts.names) | {"Tags": None} for role in shown], **more}


async def update_role(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change description and session of a role."""

    def decide(old: IamRoleRecord) -> IamRoleRecord:
        return replace(
            old,
            description=request.get("Description", old.description),
            max_session_s=_session_s(request, old.max_session_s),
        )

    await _change(parts, request, decide)
    return {}


async def update_role_description(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change the description of a role, and return the role; UpdateRole has replaced this call."""
    changed = await stored.change(
        parts.store,
        requests.role_name(request),
        lambda old: replace(old, description=request["Description"]),
    )
    return {"Role": _shown(changed, parts.names)}


async def update_assume_role_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change who may assume a role."""
    trust = _trust(request["PolicyDocument"])
    await _change(parts, request, lambda old: replace(old, trust=trust))
    return {}


async def delete_role(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a role that has no policies."""
    name = requests.role_name(request)
    await stored.delete(parts.store, name)
    await requests.applied(parts, role_records.role_key(name))
    return {}


async def tag_role(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Add tags to a role, or replace their values."""
    await _change(
        parts,
        request,
        lambda old: replace(old, tags=requests.tags(request["Tags"], old.tags)),
    )
    return {}


async def untag_role(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags of a role; those that it does not have are ignored."""
    gone = {key.lower() for key in request["TagKeys"]}

    def decide(old: IamRoleRecord) -> IamRoleRecord:
        kept = {key: value for key, value in old.tags.items() if key.lower() not in gone}
        return replace(old, tags=kept)

    await _change(parts, request, decide)
    return {}


async def list_role_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a role."""
    record = await stored.get(parts.store, requests.role_name(request))
    shown, more = requests.page(
        "ListRoleTags", request, requests.shown_tags(record.tags), lambda tag: tag["Key"]
    )
    return {"Tags": shown, **more}


async def list_instance_profiles(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return no instance profile of a role, because there are none; raises ``RoleMissing``."""
    await stored.get(parts.store, requests.role_name(request))
    return {"InstanceProfiles": [], "IsTruncated": False}


async def _change(
    parts: Parts, request: Mapping[str, Any], decide: Callable[[IamRoleRecord], IamRoleRecord]
) -> None:
    name = requests.role_name(request)
    await stored.change(parts.store, name, decide)
    await requests.applied(parts, role_records.role_key(name))


def _trust(document: str) -> str:
    documents.check_trust(document)
    if documents.length(document) > documents.TRUST_MOST:
        raise LimitExceededException(
            f"Cannot exceed quota for ACLSizePerRole: {documents.TRUST_MOST}"
        )
    return document


def _session_s(request: Mapping[str, Any], otherwise: int) -> int:
    given: int = request.get("MaxSessionDuration", otherwise)
    if not _SESSION_LEAST_S <= given <= _SESSION_MOST_S:
        raise ValidationError(
            f"MaxSessionDuration must be between {_SESSION_LEAST_S} and {_SESSION_MOST_S} seconds."
        )
    return given


def _shown(record: IamRoleRecord, names: Names) -> dict[str, Any]:
    return {
        "Path": record.path,
        "RoleName": record.name,
        "RoleId": record.id,
        "Arn": record.arn(names),
        "CreateDate": record.created_at,
        "AssumeRolePolicyDocument": quote(record.trust, safe="-_.~"),
        "Description": record.description or None,
        "MaxSessionDuration": record.max_session_s,
        "Tags": requests.shown_tags(record.tags) or None,
    }


HANDLERS: Handlers = {
    "CreateRole": create_role,
    "DeleteRole": delete_role,
    "GetRole": get_role,
    "ListInstanceProfilesForRole": list_instance_profiles,
    "ListRoleTags": list_role_tags,
    "ListRoles": list_roles,
    "TagRole": tag_role,
    "UntagRole": untag_role,
    "UpdateAssumeRolePolicy": update_assume_role_policy,
    "UpdateRole": update_role,
    "UpdateRoleDescription": update_role_description,
}
