"""Permissions of IAM and STS. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.authorization.actions.rows import (
    Asked,
    Kind,
    Named,
    Resource,
    Row,
    looked_up,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.authorization.actions.rows import Values


def _arn(asked: Asked, rest: str) -> str:
    return f"arn:{asked.names.partition}:iam::{asked.names.account}:{rest}"


def _new_role(asked: Asked) -> list[Resource]:
    return [_arn(asked, f"role{asked.members.get('Path', '/')}{asked.members['RoleName']}")]


def _new_user(asked: Asked) -> list[Resource]:
    return [_arn(asked, f"user{asked.members.get('Path', '/')}{asked.members['UserName']}")]


def _roles(asked: Asked) -> list[Resource]:
    return [_arn(asked, "role/")]


def _users(asked: Asked) -> list[Resource]:
    return [_arn(asked, "user/")]


def _user(asked: Asked) -> list[Resource]:
    """Return the user of a request; without a name it is who calls."""
    return [Named(Kind.USER, asked.members.get("UserName", ""))]


def _policy(asked: Asked) -> Values:
    return texts({"iam:policyarn": asked.members.get("PolicyArn")})


_role = looked_up(Kind.ROLE, "RoleName")
_OF_A_ROLE: Final = (
    "DeleteRole",
    "DeleteRolePolicy",
    "GetRole",
    "GetRolePolicy",
    "ListAttachedRolePolicies",
    "ListInstanceProfilesForRole",
    "ListRolePolicies",
    "ListRoleTags",
    "PutRolePolicy",
    "TagRole",
    "UntagRole",
    "UpdateAssumeRolePolicy",
    "UpdateRole",
    "UpdateRoleDescription",
)
_OF_A_USER: Final = (
    "CreateAccessKey",
    "DeleteAccessKey",
    "DeleteUser",
    "DeleteUserPolicy",
    "GetUser",
    "GetUserPolicy",
    "ListAccessKeys",
    "ListAttachedUserPolicies",
    "ListGroupsForUser",
    "ListUserPolicies",
    "ListUserTags",
    "PutUserPolicy",
    "TagUser",
    "UntagUser",
    "UpdateAccessKey",
)

IAM: Final[Mapping[str, Row]] = {
    **{name: Row(f"iam:{name}", _role) for name in _OF_A_ROLE},
    **{name: Row(f"iam:{name}", _user) for name in _OF_A_USER},
    **{
        name: Row(f"iam:{name}", _role, _policy)
        for name in ("AttachRolePolicy", "DetachRolePolicy")
    },
    **{
        name: Row(f"iam:{name}", _user, _policy)
        for name in ("AttachUserPolicy", "DetachUserPolicy")
    },
    "CreateRole": Row("iam:CreateRole", _new_role),
    "CreateUser": Row("iam:CreateUser", _new_user),
    "ListRoles": Row("iam:ListRoles", _roles),
    "ListUsers": Row("iam:ListUsers", _users),
}
STS: Final[Mapping[str, Row]] = {
    # AWS answers it whatever policies say.
    "GetCallerIdentity": Row(""),
    # The role's trust policy counts as well, so its handler decides.
    "AssumeRole": Row(""),
}
