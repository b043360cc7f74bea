"""Errors of the CloudWatch API; names as its model has them, texts as its clients show them."""

from __future__ import annotations

from agent.controlplane.front.errors import ApiError


class InvalidParameterValueException(ApiError):
    """The value of a parameter is not valid."""


class InvalidParameterCombinationException(ApiError):
    """Parameters do not go together."""


class MissingRequiredParameterException(ApiError):
    """A parameter is missing."""


class ValidationException(ApiError):
    """A query of GetMetricData is not valid."""


class LimitExceededFault(ApiError):
    """There are as many alarms as there may be."""

    code = "LimitExceeded"


class ResourceNotFound(ApiError):
    """There is no such alarm."""

    status = 404


class ResourceNotFoundException(ApiError):
    """There is no alarm of that ARN."""

    status = 404


class InvalidFormatFault(ApiError):
    """What should be JSON is not."""

    code = "InvalidFormat"


class InvalidNextToken(ApiError):
    """The token was not made for this request."""
