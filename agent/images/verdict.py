"""What a failed pull says about trying again: pure, from the texts of engine and registry.

The engine answers nearly every failure of a registry with status 500, so its words have to tell.
Words that are not known count as final: a pull that is repeated in vain delays the news by seconds,
and the first text is the one that explains the failure.
"""

from __future__ import annotations

import re
from enum import StrEnum

from agent.errors import EngineTimeout, EngineUnavailable, NoSuchImage, RuntimeFailure


class Verdict(StrEnum):
    """What a failure is about."""

    ABSENT = "absent"
    """The registry answered: it does not have the image, or not for us."""
    TROUBLE = "trouble"
    """The registry, or the way to it, does not work now: try again."""
    ENGINE = "engine"
    """The engine itself did not answer; nothing is known about the registry."""
    FINAL = "final"
    """Anything else, for example a bad name or a certificate that is not trusted."""


_QUOTED = re.compile(r'"[^"]*"')
_DENIED = re.compile(
    r"denied|unauthorized|no basic auth credentials|authentication required"
    r"|incorrect username or password|not found|(manifest|name|blob|repository) unknown|does not exist",
    re.IGNORECASE,
)
_TROUBLE = re.compile(
    r"dial (tcp|udp)|no such host|server misbehaving|name resolution|connection refused"
    r"|connection reset|broken pipe|no route to host|network is (unreachable|down)"
    r"|i/o timeout|timeout|timed out|deadline exceeded|request canceled|\bEOF\b"
    r"|toomanyrequests|too many requests|rate limit"
    r"|\b(429|500|502|503|504)\b|bad gateway|service unavailable|internal server error"
    r"|proxyconnect|http2: |use of closed network connection",
    re.IGNORECASE,
)


def of(error: RuntimeFailure) -> Verdict:
    """Return what a failed pull or registry question is about."""
    if isinstance(error, EngineUnavailable):
        return Verdict.ENGINE
    if isinstance(error, EngineTimeout):
        return Verdict.TROUBLE
    if isinstance(error, NoSuchImage):
        return Verdict.ABSENT
    # What stands in quotes is the address that was asked, and may hold any word.
    text = _QUOTED.sub("", str(error))
    if _TROUBLE.search(text):
        return Verdict.TROUBLE
    return Verdict.ABSENT if _DENIED.search(text) else Verdict.FINAL
