"""One call that finds out who control is and whether it accepts this host: for `join` and `doctor`.

Opens its own connection and stores nothing. Fails with the same errors and texts as the long poll.

Tests: ``tests/unit/upstream/test_tokens.py``, ``tests/unit/doctor/checks/test_control.py``.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.upstream.certificates.host import HostCertificate
from agent.upstream.credentials import Token
from agent.upstream.longpoll.exchange import CallLimits, parse_endpoint
from agent.upstream.longpoll.http_client import HttpClient

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model.wire import Hello

LIMIT_S: Final = 10.0


class HelloResult(NamedTuple):
    """Who control is, and how far the clocks differ."""

    hello: Hello
    ahead_s: float | None
    """How far this host's clock is ahead of control's, to about a second; None if the answer has no
    date."""


async def meet(
    endpoint: str,
    *,
    token: str = "",
    ca_file: Path | None = None,
    cluster: str = "",
    data_dir: Path | None = None,
) -> HelloResult:
    """Ask control who it is; takes at most ``LIMIT_S``.

    Args:
        endpoint: URL of the control endpoint.
        token: the token to send; empty for none.
        ca_file: PEM file with a CA to trust besides the system's.
        cluster: also ask whether a host may register into the cluster with this name.
        data_dir: where the agent of this host keeps its certificate; None for one that has none.

    Raises:
        ConfigError: the URL or the CA file cannot be used.
        TokenRefused: control requires a token, and this is not one of its own.
        ControlFailure: control does not answer, is not trusted, or is not a control endpoint.
    """
    limits = CallLimits(connect_s=LIMIT_S / 2, call_s=LIMIT_S, answer_bytes=1024 * 1024)
    url = parse_endpoint(endpoint)
    certificate = None
    if data_dir is not None and url.scheme == "https":
        certificate = await HostCertificate.open(data_dir, str(url))
    client = await HttpClient.open(
        url, limits, token=Token(text=token), ca_file=ca_file, certificate=certificate
    )
    try:
        before = time.time()
        hello, date = await client.hello(cluster)
        return HelloResult(hello, ahead_s(date, before, time.time()))
    finally:
        await client.close()


def ahead_s(date: str, before: float, after: float) -> float | None:
    """Return how far the local clock is ahead of a ``Date`` header, received between two times.

    The header has whole seconds. If it may be of any moment in between, the clocks agree: 0. Pure.
    """
    try:
        at = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    if at + 1.0 < before:
        return before - (at + 1.0)
    return min(0.0, after - at)
