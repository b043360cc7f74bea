"""Errors of APIs: each becomes ``{"__type": ..., "message": ...}`` with its HTTP status.

Names and statuses are those of the ECS service model; every mistake of a client is a 400.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Mapping


class ApiError(AgentError):
    """An error response; the client gets its text unchanged."""

    status = 400
    code = ""
    """The error's name in the protocol; the class name if empty."""

    def __init__(self, text: str = "", members: Mapping[str, str] | None = None) -> None:
        """Take the text, and members that the error has besides it in its model."""
        super().__init__(text)
        self.members = dict(members or {})

    @property
    def name(self) -> str:
        """The error's name in the protocol."""
        return self.code or type(self).__name__


class ClientException(ApiError):
    """The call asks for something that cannot be done, or names something that does not exist."""


class InvalidParameterException(ApiError):
    """A parameter is not valid."""


class ClusterNotFoundException(ApiError):
    """The cluster does not exist or is INACTIVE."""

    def __init__(self, text: str = "Cluster not found.") -> None:
        super().__init__(text)


class ClusterContainsTasksException(ApiError):
    """A cluster with tasks cannot be deleted."""

    def __init__(self, text: str = "The Cluster cannot be deleted while Tasks are active.") -> None:
        super().__init__(text)


class ClusterContainsContainerInstancesException(ApiError):
    """A cluster with container instances cannot be deleted."""

    def __init__(
        self,
        text: str = (
            "The Cluster cannot be deleted while Container Instances are active or draining."
        ),
    ) -> None:
        super().__init__(text)


class ClusterContainsServicesException(ApiError):
    """A cluster with services cannot be deleted."""

    def __init__(
        self, text: str = "The Cluster cannot be deleted while Services are active."
    ) -> None:
        super().__init__(text)


class ServiceNotFoundException(ApiError):
    """The service does not exist."""

    def __init__(self, text: str = "Service not found.") -> None:
        super().__init__(text)


class ServiceNotActiveException(ApiError):
    """The service was deleted."""

    def __init__(self, text: str = "Service was not ACTIVE.") -> None:
        super().__init__(text)


class TaskSetNotFoundException(ApiError):
    """The task set does not exist."""

    def __init__(self, text: str = "The specified task set does not exist.") -> None:
        super().__init__(text)


class ServiceDeploymentNotFoundException(ApiError):
    """The service deployment does not exist."""

    def __init__(self, text: str = "Service deployment not found.") -> None:
        super().__init__(text)


class NamespaceNotFoundException(ApiError):
    """The namespace does not exist."""

    def __init__(self, text: str = "Namespace was not found.") -> None:
        super().__init__(text)


class TargetNotConnectedException(ApiError):
    """The agent of a task cannot run a command now."""

    def __init__(
        self,
        text: str = "The execute command failed due to an internal error. Try again later.",
    ) -> None:
        super().__init__(text)


class TargetNotFoundException(ApiError):
    """The target of an attribute does not exist."""


class AttributeLimitExceededException(ApiError):
    """A resource would have more attributes than allowed."""


class ResourceNotFoundException(ApiError):
    """The resource of a tag does not exist."""


class ResourceInUseException(ApiError):
    """Something that would be removed is still used."""


class LimitExceededException(ApiError):
    """There would be more of something than allowed."""


class ConflictException(ApiError):
    """The call contradicts an earlier one with the same client token."""


class PlatformUnknownException(ApiError):
    """There is no such platform version."""

    def __init__(self, text: str = "The specified platform does not exist.") -> None:
        super().__init__(text)


class AccessDeniedException(ApiError):
    """The caller is admitted, but not to what the call is about."""


class UnsupportedFeatureException(ApiError):
    """The operation or option exists in ECS but not here."""


class NotServedHere(ApiError):
    """The operation is for operators, but the address only serves agents."""

    status = 404

    def __init__(self) -> None:
        super().__init__(
            "this address serves agents only; call the ECS API on the address of control's --listen"
        )


class UnknownOperationException(ApiError):
    """``X-Amz-Target`` is missing or does not name an operation of ECS."""


class ThrottlingException(ApiError):
    """Too many calls of this kind; the same one may succeed later."""

    retryable = True


class SerializationException(ApiError):
    """The body is not JSON, or a value has the wrong type."""


class UnsupportedMediaTypeException(ApiError):
    """The body is not ``application/x-amz-json-1.1``."""

    status = 415


class RequestEntityTooLargeException(ApiError):
    """The body is larger than the limit."""

    status = 413


class RequestTimeoutException(ApiError):
    """The body did not arrive in time."""

    status = 408


class ServerException(ApiError):
    """The endpoint failed; the same call may succeed later."""

    status = 500
    retryable = True
