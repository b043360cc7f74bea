"""Errors of the long poll: each is a response with a status and a code of ``model.wire``."""

from __future__ import annotations

from agent.errors import AgentError


class WireError(AgentError):
    """An error response."""

    status = 400
    code = "InvalidRequest"


class InvalidRequest(WireError):
    """The call cannot be read or breaks the contract."""


class InvalidParameter(WireError):
    """What the call asks for is not possible in ECS; the code is the one of its API."""

    code = "InvalidParameterException"


class Unauthorized(WireError):
    """The call has no token that control knows."""

    status = 401
    code = "Unauthorized"


class NoSuchCall(WireError):
    """Nothing is served at this method and path."""

    status = 404
    code = "NoSuchCall"


class CommandGone(WireError):
    """Nobody expects the agent to connect for this session any more."""

    status = 404
    code = "CommandGone"


class InstanceUnknown(WireError):
    """The instance does not exist any more: the agent registers again."""

    status = 404
    code = "InstanceUnknown"


class StaleGeneration(WireError):
    """A newer registration exists, or the instance was deregistered: the agent stops."""

    status = 409
    code = "StaleGeneration"


class RevisionCompacted(WireError):
    """The revision is not one of this store: the agent asks again from 0."""

    status = 410
    code = "RevisionCompacted"


class TooLarge(WireError):
    """The body is larger than control reads."""

    status = 413


class TooManyHosts(WireError):
    """More new hosts than control admits without a token."""

    status = 429
    code = "TooManyHosts"
    retryable = True

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class TooManyIngresses(WireError):
    """More ingresses than control serves."""

    status = 429
    code = "TooManyIngresses"
    retryable = True


class LogGroupMissing(WireError):
    """The log group does not exist, or this host may not write to it."""

    status = 404
    code = "ResourceNotFoundException"


class LogsNotTaken(WireError):
    """The log store cannot take more now."""

    status = 503
    code = "Unavailable"
    retryable = True

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class SecretsClosed(WireError):
    """A secret that control keeps cannot be decrypted now; an operator has to mend it."""

    status = 503
    code = "SecretsClosed"
    retryable = True


class TryAgain(WireError):
    """Control cannot do it now."""

    status = 503
    code = "Unavailable"
    retryable = True
