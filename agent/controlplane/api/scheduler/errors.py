"""Errors of EventBridge Scheduler. Source of names and statuses: its service model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.front.errors import ApiError, InvalidParameterException
from agent.controlplane.schedules.expressions import ExpressionInvalid
from agent.controlplane.schedules.targets import TargetInvalid

if TYPE_CHECKING:
    from agent.controlplane.api.translation import Translations


class ValidationException(ApiError):
    """A member of the request is not valid, or not served."""


class ConflictException(ApiError):
    """There is a schedule or a group of that name, or another call changes it."""

    status = 409


class ResourceNotFoundException(ApiError):
    """There is no such schedule or group."""

    status = 404


TRANSLATIONS: Translations = {
    InvalidParameterException: ValidationException,
    TargetInvalid: ValidationException,
    ExpressionInvalid: lambda text: ValidationException(
        f"Invalid Schedule Expression or time zone: {text}."
    ),
}
