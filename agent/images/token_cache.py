"""Logins to registries that are good for hours: one request for all who want one, renewed ahead.

Source: Amazon ECS agent 1.105.1, ``agent/async`` and ``agent/ecr`` (100 tokens; renewed half an hour to an
hour before they end). Ours renews in the background while the old one is good. One event loop.

Tests: ``tests/unit/images/test_token_cache.py``.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from agent.errors import AgentError
from agent.images.single_flight import SingleFlight
from agent.runtime.protocol import RegistryAuth

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.images.single_flight import Report

LIMIT: Final = 100
AHEAD_S: Final = 1800.0
"""A token is renewed this long, and up to as long again, before it ends, or after half of its life."""
LEAST_S: Final = 60.0
"""A token that ends within this time is not used any more."""
_AGAIN_S: Final = 60.0
"""How soon a renewal in the background that failed is tried again."""

_log = structlog.get_logger()


class Token(Protocol):
    """User name and password, and how long they are good."""

    @property
    def username(self) -> str: ...  # noqa: D102 - see the class
    @property
    def password(self) -> str: ...  # noqa: D102
    @property
    def good_s(self) -> float: ...  # noqa: D102


class _Held(NamedTuple):
    auth: RegistryAuth
    renew_at: float
    ends_at: float


class TokenCache:
    """Tokens by what they are for; the least recently used go first."""

    def __init__(self, *, limit: int = LIMIT, steady: Callable[[], float] = time.monotonic) -> None:
        """``steady`` gives seconds that never step."""
        self._limit = limit
        self._steady = steady
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._requests: SingleFlight[RegistryAuth] = SingleFlight()

    async def get(self, key: str, request: Callable[[], Awaitable[Token]]) -> RegistryAuth:
        """Return the token of this key, requested if there is none that is good.

        Raises what ``request`` raises, and ``EngineUnavailable`` after ``close``.
        """
        held, now = self._held.get(key), self._steady()

        async def renewed(_report: Report) -> RegistryAuth:
            return self._hold(key, await request())

        if held is None or now >= held.ends_at - LEAST_S:
            return await self._requests.join(key, renewed)
        self._held.move_to_end(key)
        if now >= held.renew_at:
            self._held[key] = held._replace(renew_at=now + _AGAIN_S)
            self._requests.launch(key, lambda report: _quietly(key, renewed, report, held.auth))
        return held.auth

    def drop(self, key: str, auth: RegistryAuth) -> None:
        """Forget a token that its registry refused; another one that came since stays."""
        held = self._held.get(key)
        if held is not None and held.auth == auth:
            del self._held[key]

    async def close(self) -> None:
        """End all requests."""
        await self._requests.close()

    def _hold(self, key: str, token: Token) -> RegistryAuth:
        now = self._steady()
        auth = RegistryAuth(username=token.username, password=token.password)
        ahead_s = AHEAD_S * random.uniform(1.0, 2.0)  # noqa: S311 - spreads load
        renew_in_s = max(token.good_s - ahead_s, token.good_s / 2)
        self._held[key] = _Held(auth, now + renew_in_s, now + token.good_s)
        self._held.move_to_end(key)
        while len(self._held) > self._limit:
            self._held.popitem(last=False)
        return auth

    def __repr__(self) -> str:
        return f"TokenCache({len(self._held)} held)"


async def _quietly(
    key: str,
    renewed: Callable[[Report], Awaitable[RegistryAuth]],
    report: Report,
    old: RegistryAuth,
) -> RegistryAuth:
    """Renew in the background; the old token is good for a while if that fails."""
    try:
        return await renewed(report)
    except AgentError as error:
        _log.warning("registry login not renewed yet", login=key, error=str(error))
        return old
