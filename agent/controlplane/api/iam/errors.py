"""Errors of IAM, and what those of the store of roles become there. Source: IAM API reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.front.errors import ApiError, InvalidParameterException
from agent.controlplane.iam.documents import DocumentInvalid
from agent.controlplane.iam.stored import RoleExists, RoleInUse, RoleMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.api.translation import Translations

ValidationError = InvalidParameterException
"""A parameter is not valid; the query protocol calls it by this name."""


class NoSuchEntityException(ApiError):
    """There is no such role or policy."""

    status = 404


class EntityAlreadyExistsException(ApiError):
    """There is a role of that name."""

    status = 409


class DeleteConflictException(ApiError):
    """A role has policies."""

    status = 409


class LimitExceededException(ApiError):
    """There would be more of something than there may be."""

    status = 409


class InvalidInputException(ApiError):
    """Parameters do not go together."""


class MalformedPolicyDocumentException(ApiError):
    """A document is not a policy."""


TRANSLATIONS: Translations = {
    RoleMissing: NoSuchEntityException,
    RoleExists: EntityAlreadyExistsException,
    RoleInUse: DeleteConflictException,
    DocumentInvalid: MalformedPolicyDocumentException,
}

_USERS: Final = "operators have the keys of control's file of keys (ecs-agent control --keys-file), not users of IAM"
_POLICIES: Final = "a role here has managed policies of AWS, and its own by PutRolePolicy"
REASONS: Final[Mapping[str, str]] = {
    "CreateUser": _USERS,
    "ListUsers": _USERS,
    "GetUser": _USERS,
    "CreateAccessKey": _USERS,
    "ListAccessKeys": _USERS,
    "CreatePolicy": _POLICIES,
    "CreateServiceLinkedRole": "nothing here needs a service-linked role",
    "CreateInstanceProfile": "hosts register with control's token, not with an instance profile",
}
"""Why calls that tutorials make are not served, and what to do instead."""
