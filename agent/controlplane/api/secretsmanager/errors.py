"""Errors of Secrets Manager, and what those of the keeper of secrets become there.

Source of names and texts: the API reference of AWS Secrets Manager, and what its clients show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.front.errors import (
    ApiError,
    InvalidParameterException,
    ResourceNotFoundException,
)
from agent.controlplane.front.pages import InvalidToken
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.controlplane.secrets.stored import (
    SecretDeleted,
    SecretExists,
    SecretMissing,
    StageMisplaced,
    TooManyStages,
)

if TYPE_CHECKING:
    from agent.controlplane.api.translation import Translations


class ResourceExistsException(ApiError):
    """There is such a secret, or such a version with another value."""


class InvalidRequestException(ApiError):
    """The secret is not in a state for this call."""


class InvalidNextTokenException(ApiError):
    """The token is not one of this list."""


class LimitExceededException(ApiError):
    """There would be more than allowed."""


class InternalServiceError(ApiError):
    """A value cannot be encrypted or decrypted here."""

    status = 500


TRANSLATIONS: Translations = {
    SecretMissing: ResourceNotFoundException,
    SecretExists: ResourceExistsException,
    SecretDeleted: InvalidRequestException,
    StageMisplaced: InvalidParameterException,
    TooManyStages: LimitExceededException,
    SecretsFailure: InternalServiceError,
    InvalidToken: lambda _: InvalidNextTokenException("The token is not valid."),
}
