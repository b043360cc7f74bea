"""Errors of EventBridge. Source of names: its service model, and "Common errors" of its API reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.front.errors import ApiError, InvalidParameterException
from agent.controlplane.schedules.expressions import ExpressionInvalid
from agent.controlplane.schedules.targets import TargetInvalid

if TYPE_CHECKING:
    from agent.controlplane.api.translation import Translations


class ValidationException(ApiError):
    """A member of the request is not valid, or not served."""


class ResourceNotFoundException(ApiError):
    """There is no such rule or event bus."""


class LimitExceededException(ApiError):
    """There are as many as there may be."""


TRANSLATIONS: Translations = {
    InvalidParameterException: ValidationException,
    TargetInvalid: ValidationException,
    ExpressionInvalid: lambda text: ValidationException(
        f"Parameter ScheduleExpression is not valid: {text}."
    ),
}
