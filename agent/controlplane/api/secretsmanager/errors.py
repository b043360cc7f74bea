"""Errors of Secrets Manager, and what those of the keeper of secrets become there.

Source of names and texts: the API reference of AWS Secrets Manager, and what its clients show.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from agent.controlplane.front.errors import ApiError, ResourceNotFoundException
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.controlplane.secrets.stored import (
    SecretDeleted,
    SecretExists,
    SecretMissing,
    TooManyStages,
)

if TYPE_CHECKING:
    from agent.controlplane.parts import Handler, Parts
    from agent.controlplane.secrets.keeper import SecretKeeper


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


def keeper_of(parts: Parts) -> SecretKeeper:
    """Return what keeps the secrets of this control."""
    if parts.secrets is None:
        raise InternalServiceError("this control endpoint keeps no secrets")
    return parts.secrets


def translated(handler: Handler) -> Handler:
    """Return a handler that turns errors of the keeper into those of the service."""

    @functools.wraps(handler)
    async def call(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await handler(parts, request)
        except SecretMissing as error:
            raise ResourceNotFoundException(str(error)) from None
        except SecretExists as error:
            raise ResourceExistsException(str(error)) from None
        except SecretDeleted as error:
            raise InvalidRequestException(str(error)) from None
        except TooManyStages as error:
            raise LimitExceededException(str(error)) from None
        except SecretsFailure as error:
            raise InternalServiceError(str(error)) from None

    return call
