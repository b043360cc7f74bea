"""Policies of users: managed ones, which are attached, and a user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from msgspec.structs import replace

from agent.controlplane.api.iam import requests
from agent.controlplane.api.iam.errors import LimitExceededException, NoSuchEntityException
from agent.controlplane.iam import documents, managed, user_records, users

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.iam.user_records import IamUserRecord
    from agent.controlplane.parts import Handlers, Parts

ATTACHED_MOST: Final = 10
_SHOWN: Final = 128


async def attach_user_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Attach a managed policy of AWS to a user; one that it has changes nothing."""
    arn: str = request["PolicyArn"]
    if managed.name_of(arn, parts.names.partition) is None:
        raise NoSuchEntityException(f"Policy {arn[:_SHOWN]} does not exist or is not attachable.")

    def decide(old: IamUserRecord) -> IamUserRecord:
        if arn in old.attached:
            return old
        if len(old.attached) >= ATTACHED_MOST:
            raise LimitExceededException(
                f"Cannot exceed quota for PoliciesPerUser: {ATTACHED_MOST}"
            )
        return replace(old, attached=[*old.attached, arn])

    await _change(parts, request, decide)
    return {}


async def detach_user_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Detach a managed policy from a user."""
    arn: str = request["PolicyArn"]

    def decide(old: IamUserRecord) -> IamUserRecord:
        if arn not in old.attached:
            raise NoSuchEntityException(f"Policy {arn[:_SHOWN]} was not found.")
        return replace(old, attached=[each for each in old.attached if each != arn])

    await _change(parts, request, decide)
    return {}


async def list_attached_user_policies(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the managed policies of a user."""
    record = await users.get(parts.store, requests.user_name(request))
    prefix = request.get("PathPrefix", "/")
    found = [arn for arn in record.attached if managed.path_of(arn).startswith(prefix)]
    shown, more = requests.page("ListAttachedUserPolicies", request, found, lambda arn: arn)
    listed = [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in shown]
    return {"AttachedPolicies": listed, **more}


async def put_user_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Give a user a policy of its own, or replace one."""
    name, document = requests.name(request, "PolicyName"), request["PolicyDocument"]
    documents.check_permissions(document)

    def decide(old: IamUserRecord) -> IamUserRecord:
        inline = {**old.inline, name: document}
        if sum(map(documents.length, inline.values())) > documents.USER_INLINE_MOST:
            raise LimitExceededException(
                f"Maximum policy size of {documents.USER_INLINE_MOST} bytes exceeded for user {old.name}"
            )
        return replace(old, inline=inline)

    await _change(parts, request, decide)
    return {}


async def get_user_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a policy of a user's own."""
    record = await users.get(parts.store, requests.user_name(request))
    name = requests.name(request, "PolicyName")
    if name not in record.inline:
        raise _no_policy(name)
    return {
        "UserName": record.name,
        "PolicyName": name,
        "PolicyDocument": quote(record.inline[name], safe="-_.~"),
    }


async def delete_user_policy(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a policy of a user's own."""
    name = requests.name(request, "PolicyName")

    def decide(old: IamUserRecord) -> IamUserRecord:
        if name not in old.inline:
            raise _no_policy(name)
        return replace(old, inline={key: each for key, each in old.inline.items() if key != name})

    await _change(parts, request, decide)
    return {}


async def list_user_policies(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the names of a user's own policies."""
    record = await users.get(parts.store, requests.user_name(request))
    shown, more = requests.page("ListUserPolicies", request, record.inline, lambda name: name)
    return {"PolicyNames": shown, **more}


async def _change(
    parts: Parts, request: dict[str, Any], decide: Callable[[IamUserRecord], IamUserRecord]
) -> None:
    name = requests.user_name(request)
    await users.change(parts.store, name, decide)
    await requests.applied(parts, user_records.user_key(name))


def _no_policy(name: str) -> NoSuchEntityException:
    return NoSuchEntityException(f"The user policy with name {name[:_SHOWN]} cannot be found.")


HANDLERS: Handlers = {
    "AttachUserPolicy": attach_user_policy,
    "DeleteUserPolicy": delete_user_policy,
    "DetachUserPolicy": detach_user_policy,
    "GetUserPolicy": get_user_policy,
    "ListAttachedUserPolicies": list_attached_user_policies,
    "ListUserPolicies": list_user_policies,
    "PutUserPolicy": put_user_policy,
}
