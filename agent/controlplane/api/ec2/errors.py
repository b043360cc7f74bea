"""Errors of Amazon EC2, and what those of the store of groups become there.

Source of names and texts: "Error codes for the Amazon EC2 API".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.front.errors import ApiError
from agent.controlplane.security_groups.rules import RuleInvalid
from agent.controlplane.security_groups.stored import (
    GroupExists,
    GroupFixed,
    GroupInUse,
    GroupMissing,
    TooManyRules,
)

if TYPE_CHECKING:
    from agent.controlplane.api.translation import Translations


class InvalidGroupNotFound(ApiError):
    """There is no such group."""

    code = "InvalidGroup.NotFound"


class InvalidGroupDuplicate(ApiError):
    """There is a group of that name."""

    code = "InvalidGroup.Duplicate"


class InvalidPermissionDuplicate(ApiError):
    """The group has such a rule."""

    code = "InvalidPermission.Duplicate"


class InvalidPermissionNotFound(ApiError):
    """The group has no such rule."""

    code = "InvalidPermission.NotFound"


class InvalidRuleIdNotFound(ApiError):
    """There is no rule of that id."""

    code = "InvalidSecurityGroupRuleId.NotFound"


class InvalidVpcNotFound(ApiError):
    """There is no such VPC."""

    code = "InvalidVpcID.NotFound"


class InvalidSubnetNotFound(ApiError):
    """There is no such subnet."""

    code = "InvalidSubnetID.NotFound"


class InvalidNetworkInterfaceNotFound(ApiError):
    """There is no such interface."""

    code = "InvalidNetworkInterfaceID.NotFound"


class InvalidInstanceNotFound(ApiError):
    """There is no such host."""

    code = "InvalidInstanceID.NotFound"


class InvalidParameterValue(ApiError):
    """A parameter is not valid."""


class InvalidParameterCombination(ApiError):
    """Parameters do not go together."""


class MissingParameter(ApiError):
    """A parameter is missing."""


class UnsupportedOperation(ApiError):
    """Something of the call is not served here."""


class TagLimitExceeded(ApiError):
    """A resource would have too many tags."""


class RulesPerSecurityGroupLimitExceeded(ApiError):
    """The group has too many rules."""


class DependencyViolation(ApiError):
    """The group is used."""


class CannotDelete(ApiError):
    """The group cannot be deleted."""


TRANSLATIONS: Translations = {
    GroupMissing: InvalidGroupNotFound,
    GroupExists: InvalidGroupDuplicate,
    GroupInUse: DependencyViolation,
    GroupFixed: CannotDelete,
    TooManyRules: RulesPerSecurityGroupLimitExceeded,
    RuleInvalid: InvalidParameterValue,
}
