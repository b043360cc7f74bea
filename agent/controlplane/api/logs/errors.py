"""Errors of the CloudWatch Logs API, and what the log store's become there.

Source of names and texts: the API reference of CloudWatch Logs, and what its clients show.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

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
    from agent.controlplane.parts import Handler, Parts


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


def translated(handler: Handler) -> Handler:
    """Return a handler whose errors of the store are those of the service."""

    @functools.wraps(handler)
    async def call(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await handler(parts, request)
        except (GroupMissing, StreamMissing) as error:
            what = "group" if isinstance(error, GroupMissing) else "stream"
            raise ResourceNotFoundException(f"The specified log {what} does not exist.") from None
        except (GroupExists, StreamExists) as error:
            what = "group" if isinstance(error, GroupExists) else "stream"
            raise ResourceAlreadyExistsException(
                f"The specified log {what} already exists"
            ) from None
        except BatchRefused as error:
            raise InvalidParameterException(str(error)) from None
        except (LogStoreBusy, LogStoreFull, LogStoreDown) as error:
            raise ServiceUnavailableException(str(error)) from None
        except LogStoreOff as error:
            raise UnsupportedFeatureException(str(error)) from None

    return call
