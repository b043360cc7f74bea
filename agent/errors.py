"""The error tree of the agent: every family on one screen.

::

    AgentError
    ├── ConfigError        a setting is unknown or bad; the process exits with TERMINAL
    ├── RuntimeFailure     the container engine refused, timed out or is down (agent/runtime)
    │   ├── EngineUnavailable   no answer from the engine: the outcome is unknown, retry
    │   ├── EngineTimeout       one call exceeded its deadline
    │   ├── NoSuchContainer     the engine answered 404: the only proof that a container is gone
    │   ├── NameConflict        the container name is taken (409)
    │   ├── NoSuchImage         the image is not on the host or not in the registry
    │   └── EngineRefused       any other answer: bad request, start failure, ...
    │       ├── PortTaken       a host port of a container is somebody else's
    │       └── StartForgotten  a start was cut off by the end of the engine, which has forgotten it
    ├── NetworkFailure     a namespace, address or rule could not be made (agent/network)
    ├── CgroupFailure      a task's control group could not be made or removed (agent/cgroups)
    ├── StateFailure       the local store cannot be read or written (agent/state)
    ├── ControlFailure     the control endpoint refused or is down (agent/upstream)
    │   ├── ControlUnavailable  transport error or 5xx: retry with backoff
    │   ├── InstanceUnknown     control no longer knows this instance: register again
    │   ├── StaleGeneration     another agent registered as this instance: stop (TERMINAL)
    │   ├── EcsRefused          the ECS API answered a call for a task with an error
    │   └── RegistrationRefused Amazon ECS will never accept this host as it is: stop (TERMINAL)
    ├── AwsFailure         AWS refused a call or cannot be reached (agent/aws)
    │   ├── AwsUnavailable      no answer, or a transient error: try again
    │   ├── CredentialsMissing  no credentials to sign with (yet)
    │   └── AwsRefused          an error with a code; the same call would fail again
    ├── CredentialsAwaited control has yet to send the credentials of a task's role: waited for
    └── PayloadError       a task cannot be run as ordered; becomes a task reason

Errors never log themselves. They are logged once, where they are handled.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD_JSON: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""All that msgspec raises for what it cannot read. Text that is no UTF-8 is a ``UnicodeError`` and no ``DecodeError``;
``ValidationError`` is one."""


class ExitCode(IntEnum):
    """Exit codes of every command, with the same meanings as in the Amazon ECS agent."""

    SUCCESS = 0
    ERROR = 1
    USAGE = 2
    TERMINAL = 5
    """A restart cannot help: the supervisor must not restart the agent."""


class AgentError(Exception):
    """Base class of all errors that the agent raises on purpose."""

    retryable: bool = False
    """True if the same call may succeed later without any change."""

    terminal: bool = False
    """True if a restart cannot help; a process that ends with this error exits with ``TERMINAL``."""


class ConfigError(AgentError):
    """A setting is unknown or bad.

    The text names the variable, where it was set, what is wrong and how to fix it.
    """

    terminal = True


class RuntimeFailure(AgentError):
    """A call to the container engine failed."""

    def __init__(self, text: str, *, operation: str = "") -> None:
        super().__init__(text)
        self.operation = operation
        """The call that failed, in ECS words: created, started, stopped, pulled, inspecting..."""


class EngineUnavailable(RuntimeFailure):
    """The engine did not answer; the outcome is unknown."""

    retryable = True


class EngineTimeout(RuntimeFailure):
    """A call exceeded its deadline; the outcome is unknown."""

    retryable = True

    def __init__(self, text: str, *, operation: str = "", limit_s: float = 0.0) -> None:
        super().__init__(text, operation=operation)
        self.limit_s = limit_s


class NoSuchContainer(RuntimeFailure):
    """The engine answered 404 for a container: it is gone."""


class NameConflict(RuntimeFailure):
    """The engine answered 409: a container with this name already exists."""


class NoSuchImage(RuntimeFailure):
    """The image is not on this host nor, if the registry was asked, in its registry."""


class EngineRefused(RuntimeFailure):
    """The engine understood the call and refused it; the text is the engine's own."""


class StartForgotten(EngineRefused):
    """An engine that died while it started a container has forgotten so, and can never start this one.

    What it had started may still be there, unknown to it.
    """


class PortTaken(EngineRefused):
    """A port of the host that a container was to publish is somebody else's."""


class NetworkFailure(AgentError):
    """A namespace, link, address, route or firewall rule could not be made or removed."""

    retryable = True


class SandboxLost(NetworkFailure):
    """The namespace that a container was to join is gone: its sandbox died."""


class CgroupFailure(AgentError):
    """A task's control group could not be made, limited or removed."""

    retryable = True


class StateFailure(AgentError):
    """The local store cannot be read or written."""


class ControlFailure(AgentError):
    """The control endpoint refused a call or cannot be reached."""


class ControlUnavailable(ControlFailure):
    """Transport error, timeout or 5xx answer: try again with backoff."""

    retryable = True

    def __init__(self, text: str, *, retry_after_s: float = 0.0, away: bool = False) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        """How long control asked us to wait; 0 if it did not say."""
        self.away = away
        """True if control did not answer at all: it, or the network to it, is down."""


class InstanceUnknown(ControlFailure):
    """Control does not know this container instance, or no longer knows it: register again."""

    retryable = True


class StaleGeneration(ControlFailure):
    """A newer registration of this instance exists: this process must stop."""

    terminal = True


class RegistrationRefused(ControlFailure):
    """Amazon ECS will not accept this host with these settings: this process must stop."""

    terminal = True


class ErrorAnswer(NamedTuple):
    """An error that AWS answered with, as it may be shown to the caller of the same API."""

    status: int
    code: str
    """For example ``ThrottlingException``; empty if there was none."""
    message: str
    request_id: str = ""
    """By which AWS finds the call; empty if it named none."""


class EcsRefused(ControlFailure):
    """The ECS API answered a call that was made for a task with an error; ``answer`` is for it."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(f"{answer.code}: {answer.message}")
        self.answer = answer


class AwsFailure(AgentError):
    """A call to AWS failed."""


class AwsUnavailable(AwsFailure):
    """Transport error, timeout, 5xx answer or throttling, after the call's own retries."""

    retryable = True

    def __init__(
        self,
        text: str,
        *,
        code: str = "",
        retry_after_s: float = 0.0,
        answer: ErrorAnswer | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        """The AWS error code, for example ``ThrottlingException``; empty if there was none."""
        self.retry_after_s = retry_after_s
        self.answer = answer
        """What AWS answered; None if it did not."""


class CredentialsMissing(AwsFailure):
    """No credentials exist, or they cannot be read now; the text lists the places searched."""

    retryable = True


class AwsRefused(AwsFailure):
    """AWS understood the call and refused it."""

    def __init__(
        self, text: str, *, code: str, status: int = 400, answer: ErrorAnswer | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        """The AWS error code, for example ``InvalidParameterException``."""
        self.status = status
        self.answer = answer
        """What AWS answered; None if the agent itself refused the call."""


class CredentialsAwaited(AgentError):
    """Control has not sent the credentials of a task's role yet, as after a restart of the agent."""

    retryable = True


class PayloadError(AgentError):
    """A task cannot be run as ordered.

    ``name`` is the ECS error name that goes in front of the text (see ``model.reasons``), or empty.
    """

    def __init__(self, text: str, *, name: str = "") -> None:
        super().__init__(text)
        self.name = name


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group, at any depth; an error that is not a group yields itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
