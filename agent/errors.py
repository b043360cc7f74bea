"""The error tree of the agent: every family in one screen.

::

    AgentError
    ├── ConfigError        a setting is unknown or bad; the process exits with TERMINAL
    ├── RuntimeFailure     the container engine refused, timed out or is away (agent/runtime)
    │   ├── EngineUnavailable   no answer from the engine: nothing is known, retry
    │   ├── EngineTimeout       one call passed its own deadline
    │   ├── NoSuchContainer     the engine says 404: the only proof that a container is gone
    │   ├── NameConflict        the container name is taken (409)
    │   ├── NoSuchImage         the image is not on the host or not in the registry
    │   └── EngineRefused       any other answer: bad request, start failure, ...
    ├── NetworkFailure     a namespace, address or rule could not be made (agent/network)
    ├── StateFailure       the local store cannot be read or written (agent/state)
    ├── ControlFailure     the control endpoint refused or is away (agent/control)
    │   ├── ControlUnavailable  transport trouble or 5xx: retry with backoff
    │   ├── InstanceUnknown     control does not know this instance any more: register again
    │   ├── StaleGeneration     another agent registered as this instance: stop (TERMINAL)
    │   └── RegistrationRefused Amazon ECS will never take this host as it is: stop (TERMINAL)
    ├── AwsFailure         AWS refused a call or cannot be reached (agent/aws)
    │   ├── AwsUnavailable      no answer, or one that says: try again
    │   ├── CredentialsMissing  no credentials to sign with (yet)
    │   └── AwsRefused          an error with a code; the same call fails again
    └── PayloadError       a task cannot be run as it was ordered; becomes a task reason

Errors never log themselves. They are logged once, where they are handled.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ExitCode(IntEnum):
    """Exit codes of every command, the meanings of the Amazon ECS agent kept."""

    SUCCESS = 0
    ERROR = 1
    USAGE = 2
    TERMINAL = 5
    """A restart cannot help: the supervisor must not restart the agent."""


class AgentError(Exception):
    """Root of all errors that the agent raises on purpose."""

    retryable: bool = False
    """True where the same call may succeed later without anybody changing anything."""

    terminal: bool = False
    """True where a restart cannot help: a process that ends by it exits with ``TERMINAL``."""


class ConfigError(AgentError):
    """A setting is unknown or bad.

    The text names the variable, where it was set, what was wrong and the mend.
    """

    terminal = True


class RuntimeFailure(AgentError):
    """A call to the container engine failed."""

    def __init__(self, text: str, *, operation: str = "") -> None:
        super().__init__(text)
        self.operation = operation
        """The call that failed, in ECS words: created, started, stopped, pulled, inspecting..."""


class EngineUnavailable(RuntimeFailure):
    """The engine did not answer; nothing is known about the outcome."""

    retryable = True


class EngineTimeout(RuntimeFailure):
    """A call passed its own deadline; nothing is known about the outcome."""

    retryable = True

    def __init__(self, text: str, *, operation: str = "", limit_s: float = 0.0) -> None:
        super().__init__(text, operation=operation)
        self.limit_s = limit_s


class NoSuchContainer(RuntimeFailure):
    """The engine answered 404 for a container: it is gone."""


class NameConflict(RuntimeFailure):
    """The engine answered 409: a container with this name exists already."""


class NoSuchImage(RuntimeFailure):
    """The image is neither on this host nor, where asked, in its registry."""


class EngineRefused(RuntimeFailure):
    """The engine understood the call and refused it; the text is the engine's own."""


class NetworkFailure(AgentError):
    """A namespace, link, address, route or firewall rule could not be made or removed."""

    retryable = True


class SandboxLost(NetworkFailure):
    """The namespace that a container was to join is gone: its sandbox died."""


class StateFailure(AgentError):
    """The local store cannot be read or written."""


class ControlFailure(AgentError):
    """The control endpoint refused a call or cannot be reached."""


class ControlUnavailable(ControlFailure):
    """Transport trouble, a timeout or a 5xx answer: try again with backoff."""

    retryable = True

    def __init__(self, text: str, *, retry_after_s: float = 0.0, away: bool = False) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        """How long control asked us to stay away; 0 when it did not say."""
        self.away = away
        """Control itself did not answer: it, or the way to it, is down."""


class InstanceUnknown(ControlFailure):
    """Control does not know this container instance (any more): register again."""

    retryable = True


class StaleGeneration(ControlFailure):
    """A newer registration of this instance exists: this process must stop."""

    terminal = True


class RegistrationRefused(ControlFailure):
    """Amazon ECS will not take this host with these settings: this process must stop."""

    terminal = True


class AwsFailure(AgentError):
    """A call to AWS failed."""


class AwsUnavailable(AwsFailure):
    """Transport trouble, a timeout, a 5xx answer or throttling, after the call's own retries."""

    retryable = True

    def __init__(self, text: str, *, code: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.code = code
        """The error code of AWS, for example ``ThrottlingException``; empty when none came."""
        self.retry_after_s = retry_after_s


class CredentialsMissing(AwsFailure):
    """There is nothing to sign with, or it cannot be read now; the text names where was looked."""

    retryable = True


class AwsRefused(AwsFailure):
    """AWS understood the call and refused it."""

    def __init__(self, text: str, *, code: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        """The error code of AWS, for example ``InvalidParameterException``."""
        self.status = status


class PayloadError(AgentError):
    """A task cannot be run as ordered.

    ``name`` is the ECS error name that goes in front of the text (see ``model.reasons``), or empty.
    """

    def __init__(self, text: str, *, name: str = "") -> None:
        super().__init__(text)
        self.name = name


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield what a group holds, in whatever depth; an error that is no group yields itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
