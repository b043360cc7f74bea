"""Errors of IAM, and what those of the store of roles become there. Source: IAM API reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.authorization.policy import PolicyInvalid
from agent.controlplane.front.errors import (
    ApiError,
    InvalidParameterException,
    ServerException,
)
from agent.controlplane.iam.stored import RoleExists, RoleInUse, RoleMissing
from agent.controlplane.iam.users import (
    KeyMissing,
    TooManyKeys,
    UserExists,
    UserInUse,
    UserMissing,
)
from agent.controlplane.secrets.sealing import SecretsFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.api.translation import Translations

ValidationError = InvalidParameterException
"""A parameter is not valid; the query protocol calls it by this name."""


class NoSuchEntityException(ApiError):
    """There is no such user, role, key or policy."""

    status = 404


class EntityAlreadyExistsException(ApiError):
    """There is a user or role of that name."""

    status = 409


class DeleteConflictException(ApiError):
    """A user or role has policies or keys."""

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
    UserMissing: NoSuchEntityException,
    UserExists: EntityAlreadyExistsException,
    UserInUse: DeleteConflictException,
    KeyMissing: NoSuchEntityException,
    TooManyKeys: LimitExceededException,
    PolicyInvalid: MalformedPolicyDocumentException,
    SecretsFailure: ServerException,
}

_GROUPS: Final = "give each user its policies, by PutUserPolicy or AttachUserPolicy"
_POLICIES: Final = "users and roles here have managed policies of AWS, and their own by PutUserPolicy and PutRolePolicy"
_PASSWORDS: Final = "users here have access keys, and no passwords"
REASONS: Final[Mapping[str, str]] = {
    "AddUserToGroup": _GROUPS,
    "CreateGroup": _GROUPS,
    "CreateLoginProfile": _PASSWORDS,
    "CreatePolicy": _POLICIES,
    "CreateServiceLinkedRole": "nothing here needs a service-linked role",
    "CreateInstanceProfile": "hosts register with control's token, not with an instance profile",
}
"""Why calls that tutorials make are not served, and what to do instead."""
