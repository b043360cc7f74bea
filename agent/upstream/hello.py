"""One call to find out who control is and whether it lets this host in: for `join` and `doctor`.

Makes a connection of its own and keeps nothing. Fails as the long poll would, in the same words.

Tests: ``tests/unit/upstream/test_tokens.py``, ``tests/unit/doctor/checks/test_control.py``.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.upstream.credentials import Token
from agent.upstream.longpoll.http_client import CallLimits, HttpClient, parse_endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model.wire import Hello

LIMIT_S: Final = 10.0


class HelloResult(NamedTuple):
    """Who control is, and how its clock stands."""

    hello: Hello
    ahead_s: float | None
    """How far this host's clock is ahead of control's, to about a second; None where control did not
    say what time it is."""


async def meet(
    endpoint: str, *, token: str = "", ca_file: Path | None = None, cluster: str = ""
) -> HelloResult:
    """Ask control who it is; takes ``LIMIT_S`` at most.

    Args:
        endpoint: URL of the control endpoint.
        token: what to show it; empty for nothing.
        ca_file: PEM file of an authority to trust besides the system's.
        cluster: have it say whether a host may register into this cluster, given by its name.

    Raises:
        ConfigError: the URL or the CA file cannot be used.
        TokenRefused: control asks for a token and this is none of its own.
        ControlFailure: control does not answer, is not trusted, or is no control endpoint.
    """
    limits = CallLimits(connect_s=LIMIT_S / 2, call_s=LIMIT_S, answer_bytes=1024 * 1024)
    client = HttpClient(parse_endpoint(endpoint), limits, token=Token(text=token), ca_file=ca_file)
    async with client:
        before = time.time()
        hello, date = await client.hello(cluster)
        return HelloResult(hello, ahead_s(date, before, time.time()))


def ahead_s(date: str, before: float, after: float) -> float | None:
    """Return how far a clock is ahead of a ``Date`` header that was made between two of its times.

    The header has whole seconds and may be of any moment in between, which counts as agreement: 0.
    Pure.
    """
    try:
        at = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    if at + 1.0 < before:
        return before - (at + 1.0)
    return min(0.0, after - at)
