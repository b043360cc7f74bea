"""Policies of roles: managed ones, which are attached, and a role's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from msgspec.structs import replace

from agent.controlplane.api.iam import requests
from agent.controlplane.api.iam.errors import LimitExceededException, NoSuchEntityException
from agent.controlplane.iam import documents, managed, role_records, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.iam.role_records import IamRoleRecord
    from agent.controlplane.parts import Handlers, Parts

ATTACHED_MOST: Final = 10
_SHOWN: Final = 128


async def attach_role_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Attach a managed policy of AWS to a role; one that it has changes nothing."""
    arn: str = request["PolicyArn"]
    if managed.name_of(arn, parts.names.partition) is None:
        raise NoSuchEntityException(f"Policy {arn[:_SHOWN]} does not exist or is not attachable.")

    def decide(old: IamRoleRecord) -> IamRoleRecord:
        if arn in old.attached:
            return old
        if len(old.attached) >= ATTACHED_MOST:
            raise LimitExceededException(
                f"Cannot exceed quota for PoliciesPerRole: {ATTACHED_MOST}"
            )
        return replace(old, attached=[*old.attached, arn])

    await _change(parts, request, decide)
    return {}


async def detach_role_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Detach a managed policy from a role."""
    arn: str = request["PolicyArn"]

    def decide(old: IamRoleRecord) -> IamRoleRecord:
        if arn not in old.attached:
            raise NoSuchEntityException(f"Policy {arn[:_SHOWN]} was not found.")
        return replace(old, attached=[each for each in old.attached if each != arn])

    await _change(parts, request, decide)
    return {}


async def list_attached_role_policies(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the managed policies of a role."""
    record = await stored.get(parts.store, requests.role_name(request))
    prefix = request.get("PathPrefix", "/")
    found = [arn for arn in record.attached if managed.path_of(arn).startswith(prefix)]
    shown, more = requests.page("ListAttachedRolePolicies", request, found, lambda arn: arn)
    listed = [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in shown]
    return {"AttachedPolicies": listed, **more}


async def put_role_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Give a role a policy of its own, or replace one."""
    name, document = requests.name(request, "PolicyName"), request["PolicyDocument"]
    documents.check_permissions(document)

    def decide(old: IamRoleRecord) -> IamRoleRecord:
        inline = {**old.inline, name: document}
        if sum(map(documents.length, inline.values())) > documents.INLINE_MOST:
            raise LimitExceededException(
                f"Maximum policy size of {documents.INLINE_MOST} bytes exceeded for role {old.name}"
            )
        return replace(old, inline=inline)

    await _change(parts, request, decide)
    return {}


async def get_role_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a policy of a role's own."""
    record = await stored.get(parts.store, requests.role_name(request))
    name = requests.name(request, "PolicyName")
    if name not in record.inline:
        raise _no_policy(name)
    return {
        "RoleName": record.name,
        "PolicyName": name,
        "PolicyDocument": quote(record.inline[name], safe="-_.~"),
    }


async def delete_role_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a policy of a role's own."""
    name = requests.name(request, "PolicyName")

    def decide(old: IamRoleRecord) -> IamRoleRecord:
        if name not in old.inline:
            raise _no_policy(name)
        return replace(old, inline={key: each for key, each in old.inline.items() if key != name})

    await _change(parts, request, decide)
    return {}


async def list_role_policies(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the names of a role's own policies."""
    record = await stored.get(parts.store, requests.role_name(request))
    shown, more = requests.page("ListRolePolicies", request, record.inline, lambda name: name)
    return {"PolicyNames": shown, **more}


async def _change(
    parts: Parts, request: dict[str, Any], decide: Callable[[IamRoleRecord], IamRoleRecord]
) -> None:
    name = requests.role_name(request)
    await stored.change(parts.store, name, decide)
    await requests.applied(parts, role_records.role_key(name))


def _no_policy(name: str) -> NoSuchEntityException:
    return NoSuchEntityException(f"The role policy with name {name[:_SHOWN]} cannot be found.")


HANDLERS: Handlers = {
    "AttachRolePolicy": attach_role_policy,
    "DeleteRolePolicy": delete_role_policy,
    "DetachRolePolicy": detach_role_policy,
    "GetRolePolicy": get_role_policy,
    "ListAttachedRolePolicies": list_attached_role_policies,
    "ListRolePolicies": list_role_policies,
    "PutRolePolicy": put_role_policy,
}
