"""Finds the endpoints of this host's sessions: DiscoverPollEndpoint, cached for 12 hours.

Calls the ECS API. One lookup runs at a time, and both sessions share its result. If the API fails,
an old result is used however old it is; without one the error goes to the caller, whose session
waits and tries again. Source: Amazon ECS agent 1.105.1, ``agent/api/ecsclient``.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from agent.errors import AwsFailure, AwsUnavailable, ControlUnavailable
from agent.throttle import RepeatedWarning
from agent.upstream.connection import WARN_EVERY_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.upstream.amazon.calls import Api

KEEP_S: Final = 12 * 3600.0
"""How long a result is used without another lookup."""
LIMIT_S: Final = 126.0
"""Time limit of a lookup: three tries of 42 s."""
_URL_LIMIT: Final = 2048


class _Known(Struct, frozen=True, kw_only=True):
    arn: str
    at: float
    acs: str
    tcs: str


class PollEndpoints:
    """The two session endpoints of one cluster. Used from one event loop."""

    def __init__(
        self, api: Api, cluster: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._cluster = cluster
        self._clock = clock
        self._lock = asyncio.Lock()
        self._known: _Known | None = None
        self._trouble = RepeatedWarning(
            "endpoints of Amazon ECS not found; using the last known ones", every_s=WARN_EVERY_S
        )

    async def acs(self, arn: str) -> str:
        """Return the base URL of the order channel for this container instance.

        Raises:
            AwsFailure: the API failed and there is no earlier result.
            ControlUnavailable: the answer has no usable URL.
        """
        known = await self._lookup(arn, lambda found: found.acs)
        return _present(known.acs, "endpoint")

    async def tcs(self, arn: str) -> str:
        """Return the base URL for telemetry; raises as ``acs`` does."""
        known = await self._lookup(arn, lambda found: found.tcs)
        return _present(known.tcs, "telemetryEndpoint")

    async def _lookup(self, arn: str, wanted: Callable[[_Known], str]) -> _Known:
        async with self._lock:
            known = self._known if self._known is not None and self._known.arn == arn else None
            # Do not cache an answer that lacks the requested URL.
            if known is not None and wanted(known) and self._clock() - known.at < KEEP_S:
                return known
            try:
                self._known = await self._ask(arn, known)
            except AwsFailure as error:
                if known is None or not wanted(known):
                    raise
                self._trouble.tell(error=str(error))
                return known
            return self._known

    async def _ask(self, arn: str, before: _Known | None) -> _Known:
        request = {"containerInstance": arn, "cluster": self._cluster, "zoneId": ""}
        try:
            async with asyncio.timeout(LIMIT_S):
                answer = await self._api.call("DiscoverPollEndpoint", request)
        except TimeoutError:
            raise AwsUnavailable(f"DiscoverPollEndpoint: no answer within {LIMIT_S:g} s") from None
        return _Known(
            arn=arn,
            at=self._clock(),
            acs=usable_url(answer.get("endpoint")) or (before.acs if before else ""),
            tcs=usable_url(answer.get("telemetryEndpoint")) or (before.tcs if before else ""),
        )


def usable_url(value: Any) -> str:
    """Return the value if it is an HTTP or WebSocket URL, else an empty string."""
    if not isinstance(value, str) or len(value) > _URL_LIMIT or not value.isprintable():
        return ""
    try:
        url = urlsplit(value)
        usable = (
            url.scheme in {"http", "https", "ws", "wss"} and bool(url.hostname) and url.port != 0
        )
    except ValueError:
        return ""
    clean = " " not in value and url.username is None and url.password is None
    return value if usable and clean else ""


def _present(url: str, name: str) -> str:
    if not url:
        raise ControlUnavailable(f"DiscoverPollEndpoint: the answer has no usable {name}")
    return url
