"""Errors of Application Auto Scaling.

Source of names: its service model. Texts are those of AWS where they are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.front.errors import ApiError, InvalidParameterException
from agent.controlplane.front.pages import InvalidToken

if TYPE_CHECKING:
    from agent.controlplane.api.translation import Translations


class ValidationException(ApiError):
    """A member of the request is not valid, or not served."""


class ObjectNotFoundException(ApiError):
    """There is no such target, policy or action."""


class LimitExceededException(ApiError):
    """There are as many as there may be."""


class InvalidNextTokenException(ApiError):
    """The token is not one of this list."""


class ResourceNotFoundException(ApiError):
    """There is no target of that ARN."""


class TooManyTagsException(ApiError):
    """The target would have too many tags."""


TRANSLATIONS: Translations = {
    InvalidToken: InvalidNextTokenException,
    InvalidParameterException: ValidationException,
}
