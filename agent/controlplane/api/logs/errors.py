"""Errors of the CloudWatch Logs API, and what the log store's become there.

Source of names and texts: the API reference of CloudWatch Logs, and what its clients show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.front.errors import (
    ApiError,
    InvalidParameterException,
    ResourceNotFoundException,
    UnsupportedFeatureException,
)
from agent.controlplane.log_store.contract import (
    GroupExists,
    GroupMissing,
    LogStoreBusy,
    LogStoreDown,
    LogStoreFull,
    LogStoreOff,
    StreamExists,
    StreamMissing,
)
from agent.controlplane.log_store.rules import BatchRefused

if TYPE_CHECKING:
    from agent.controlplane.api.translation import Translations


class ResourceAlreadyExistsException(ApiError):
    """There is a group or stream of that name."""


class TooManyTagsException(ApiError):
    """A group would have more tags than allowed."""


class ServiceUnavailableException(ApiError):
    """Events cannot be taken now; the same call may succeed later."""

    status = 503
    retryable = True


class InvalidOperationException(ApiError):
    """The operation cannot be done here."""


TRANSLATIONS: Translations = {
    GroupMissing: lambda _: ResourceNotFoundException("The specified log group does not exist."),
    StreamMissing: lambda _: ResourceNotFoundException("The specified log stream does not exist."),
    GroupExists: lambda _: ResourceAlreadyExistsException("The specified log group already exists"),
    StreamExists: lambda _: ResourceAlreadyExistsException(
        "The specified log stream already exists"
    ),
    BatchRefused: InvalidParameterException,
    LogStoreBusy: ServiceUnavailableException,
    LogStoreFull: ServiceUnavailableException,
    LogStoreDown: ServiceUnavailableException,
    LogStoreOff: UnsupportedFeatureException,
}
