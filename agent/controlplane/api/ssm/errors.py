"""Errors of Parameter Store, and what those of the keeper of secrets become there.

Source of names and texts: the API reference of AWS Systems Manager, and what its clients show.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from agent.controlplane.front.errors import ApiError
from agent.controlplane.secrets.parameters import ParameterExists, TypeMissing
from agent.controlplane.secrets.sealing import SecretsFailure

if TYPE_CHECKING:
    from agent.controlplane.parts import Handler, Parts
    from agent.controlplane.secrets.keeper import SecretKeeper


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


class HierarchyLevelLimitExceededException(ApiError):
    """The name has too many levels."""


class InternalServerError(ApiError):
    """A value cannot be encrypted or decrypted here."""

    status = 500


def keeper_of(parts: Parts) -> SecretKeeper:
    """Return what keeps the secrets of this control."""
    if parts.secrets is None:
        raise InternalServerError("this control endpoint keeps no secrets")
    return parts.secrets


def translated(handler: Handler) -> Handler:
    """Return a handler that turns errors of the keeper into those of the service."""

    @functools.wraps(handler)
    async def call(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await handler(parts, request)
        except ParameterExists:
            raise ParameterAlreadyExists(
                "The parameter already exists. To overwrite this value, set the overwrite option in "
                "the request to true."
            ) from None
        except TypeMissing:
            raise ValidationException(
                "A parameter type is required when you create a parameter."
            ) from None
        except SecretsFailure as error:
            raise InternalServerError(str(error)) from None

    return call
