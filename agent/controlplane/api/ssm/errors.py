"""Errors of Parameter Store, and what those of the keeper of secrets become there.

Source of names and texts: the API reference of AWS Systems Manager, and what its clients show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.front.errors import ApiError
from agent.controlplane.front.pages import InvalidToken
from agent.controlplane.secrets.parameters import ParameterExists, TypeMissing
from agent.controlplane.secrets.sealing import SecretsFailure

if TYPE_CHECKING:
    from agent.controlplane.api.translation import Translations


class ParameterNotFound(ApiError):
    """There is no such parameter."""


class ParameterVersionNotFound(ApiError):
    """The parameter has no such version any more."""


class ParameterAlreadyExists(ApiError):
    """There is such a parameter, and it was not to be overwritten."""


class ValidationException(ApiError):
    """A member of the request is not valid."""


class InvalidFilterKey(ApiError):
    """The filter is not known, or not served."""


class InvalidFilterOption(ApiError):
    """The filter has no such option."""


class InvalidNextToken(ApiError):
    """The token is not one of this list."""


class InvalidResourceType(ApiError):
    """Things of this type have no tags here."""


class InvalidResourceId(ApiError):
    """There is no such parameter."""


class TooManyTagsError(ApiError):
    """A parameter would have too many tags."""


class HierarchyLevelLimitExceededException(ApiError):
    """The name has too many levels."""


class InternalServerError(ApiError):
    """A value cannot be encrypted or decrypted here."""

    status = 500


TRANSLATIONS: Translations = {
    ParameterExists: lambda _: ParameterAlreadyExists(
        "The parameter already exists. To overwrite this value, set the overwrite option in the "
        "request to true."
    ),
    TypeMissing: lambda _: ValidationException(
        "A parameter type is required when you create a parameter."
    ),
    SecretsFailure: InternalServerError,
    InvalidToken: lambda _: InvalidNextToken("The specified token is not valid."),
}
