"""Whether a failed pull should be retried, from the texts of engine and registry. Pure.

The engine answers nearly every registry failure with status 500, so only its text shows the cause.
Unknown texts count as final: a useless retry delays the report by seconds, and the first text
explains the failure best.
"""

from __future__ import annotations

import re
from enum import StrEnum

from agent.errors import EngineTimeout, EngineUnavailable, NoSuchImage, RuntimeFailure


class FailureKind(StrEnum):
    """The kind of a failure."""

    ABSENT = "absent"
    """The registry answered that it does not have the image, or denied access."""
    TROUBLE = "trouble"
    """The registry, or the network to it, does not work now: try again."""
    LIMITED = "limited"
    """The registry works, but counts requests (429): try again later than after trouble."""
    NO_SPACE = "no space"
    """The engine's disk is full: try again once something was removed."""
    ENGINE = "engine"
    """The engine itself did not answer; nothing is known about the registry."""
    FINAL = "final"
    """Anything else, for example an invalid name or an untrusted certificate."""


_QUOTED = re.compile(r'"[^"]*"')
_DENIED = re.compile(
    r"denied|unauthorized|no basic auth credentials|authentication required"
    r"|incorrect username or password|not found|(manifest|name|blob|repository) unknown|does not exist",
    re.IGNORECASE,
)
_LIMITED = re.compile(r"toomanyrequests|too many requests|rate limit|\b429\b", re.IGNORECASE)
_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_TROUBLE = re.compile(
    r"dial (tcp|udp)|no such host|server misbehaving|name resolution|connection refused"
    r"|connection reset|broken pipe|no route to host|network is (unreachable|down)"
    r"|i/o timeout|timeout|timed out|deadline exceeded|request canceled|\bEOF\b"
    r"|verification failed|unexpected commit digest|failed precondition: unexpected size"
    r"|\b(500|502|503|504)\b|bad gateway|service unavailable|internal server error"
    r"|proxyconnect|http2: |use of closed network connection",
    re.IGNORECASE,
)


def of(error: RuntimeFailure) -> FailureKind:
    """Return the kind of a failed pull or registry request."""
    if isinstance(error, EngineUnavailable):
        return FailureKind.ENGINE
    if isinstance(error, EngineTimeout):
        return FailureKind.TROUBLE
    if isinstance(error, NoSuchImage):
        return FailureKind.ABSENT
    # Quoted text is the requested address, which may contain any word.
    text = _QUOTED.sub("", str(error))
    if _NO_SPACE.search(text):
        return FailureKind.NO_SPACE
    if _LIMITED.search(text):
        return FailureKind.LIMITED
    if _TROUBLE.search(text):
        return FailureKind.TROUBLE
    return FailureKind.ABSENT if _DENIED.search(text) else FailureKind.FINAL
