"""Maps the SDK's exceptions to the agent's errors. Pure, no I/O.

The text of a refusal is ``Error response from daemon: `` and the engine's own text, like in its Go
client, because operators of Amazon ECS know this form from ``stoppedReason``.
"""

from __future__ import annotations

import re

import docker.errors
import requests
import urllib3.exceptions

from agent.errors import (
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    NameConflict,
    NoSuchContainer,
    NoSuchImage,
    PortTaken,
    RuntimeFailure,
    StartForgotten,
)
from agent.model import reasons

CREATED = "created"
STARTED = "started"
PULLED = "pulled"
PULL_BEGIN = "pullBegin"
"""A pull of which the engine has not told anything yet."""
MANIFEST_PULLED = "MANIFEST_PULLED"

_FORGOTTEN = re.compile(r"^(task [0-9a-f]{64}: already exists|id already in use)$")
"""What engines answer to a start that they have forgotten; ``task`` is containerd's word for what runs."""
_TAKEN = re.compile(r"port is already allocated|bind: address already in use")
_SILENCE = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)


def refused(status: int, explanation: str, *, operation: str, subject: str = "") -> RuntimeFailure:
    """Return the error for an HTTP status and the engine's explanation.

    Args:
        status: the HTTP status.
        explanation: the ``message`` of the engine's answer.
        operation: the call that failed, in ECS words.
        subject: id or name of the container that the call was about. The engine also answers 404 if
            another container is missing, for example the one whose namespace is joined; that must
            not look as if this container were gone.
    """
    text = f"Error response from daemon: {explanation}"
    said = explanation.lower()
    kind: type[RuntimeFailure] = EngineRefused
    if status == 404:
        if "no such container" in said:
            about_it = operation == CREATED or (subject and subject in explanation)
            kind = NoSuchContainer if about_it else EngineRefused
        elif "no such image" in said or operation in {PULLED, PULL_BEGIN, MANIFEST_PULLED}:
            kind = NoSuchImage
    elif status == 409 and "is already in use by container" in said:
        kind = NameConflict
    elif operation == STARTED and _FORGOTTEN.match(explanation.strip()):
        kind = StartForgotten
    elif operation == STARTED and _TAKEN.search(explanation):
        kind = PortTaken
    return kind(text, operation=operation)


def translate(
    error: Exception, *, operation: str, limit_s: float, where: str, subject: str = ""
) -> RuntimeFailure:
    """Return the agent's error for an exception of the SDK.

    Args:
        error: what was raised in the thread.
        operation: the call that failed, in ECS words.
        limit_s: the deadline or the allowed silence, for the text of a timeout.
        where: the engine's address.
        subject: see ``refused``.
    """
    if isinstance(error, RuntimeFailure):
        return error
    if isinstance(error, docker.errors.APIError):
        explanation = error.explanation or str(error)
        return refused(error.status_code or 0, explanation, operation=operation, subject=subject)
    if isinstance(error, docker.errors.DockerException):
        # The SDK itself refused the call and sent nothing.
        return EngineRefused(str(error), operation=operation)
    if _is_silence(error):
        text = (
            f"Could not transition to {operation}; "
            f"timed out after waiting {reasons.duration(limit_s)}"
        )
        return EngineTimeout(text, operation=operation, limit_s=limit_s)
    if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError | OSError):
        text = f"cannot reach the container engine at {where}: {_root(error)}"
        return EngineUnavailable(text, operation=operation)
    text = f"the container engine at {where} gave an unreadable answer: {error!r}"
    return EngineUnavailable(text, operation=operation)


def _is_silence(error: BaseException | None) -> bool:
    """Tell whether a timeout is anywhere in the chain of causes from requests and urllib3."""
    return any(isinstance(link, _SILENCE) for link in _chain(error))


def _root(error: BaseException) -> str:
    """Return the text of the innermost cause, the only one that is useful to a person.

    For a system error, returns its text without the number.
    """
    *_, cause = _chain(error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        inner = (*error.args, getattr(error, "reason", None), error.__cause__)
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)
    return links
