"""Replaces the HTTP session, the keys and the signatures of AWS in tests of their users."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp

from agent.aws.keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yarl import URL


class FakeHttp:
    """A session without proxies."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    def proxy_for(self, _url: URL | str) -> None:
        return None

    @staticmethod
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        async with aiohttp.ClientSession() as session:
            yield FakeHttp(session)


class FakeChain:
    """Returns the access key ``keys-1``, and the next one after each refusal."""

    def __init__(self) -> None:
        self.generation = 1
        self.renews = True
        self.given: Keys | None = None
        """Returned instead, if set."""
        self.missing: Exception | None = None

    async def keys(self) -> Keys:
        if self.missing is not None:
            raise self.missing
        if self.given is not None:
            return self.given
        return Keys(f"keys-{self.generation}", "the-secret-key", "the-session-token")

    def refused(self, keys: Keys) -> None:
        if self.renews and keys.access_key == f"keys-{self.generation}":
            self.generation += 1


class FakeClock:
    """Records what it was to learn from."""

    def __init__(self) -> None:
        self.dates: list[str] = []
        self.learns = False

    def learn(self, date: str) -> bool:
        self.dates.append(date)
        return self.learns


class FakeSigner:
    """Signs with the name of the keys."""

    def __init__(self) -> None:
        self.clock = FakeClock()

    def upgrade(self, keys: Keys, _url: URL | str) -> dict[str, str]:
        return {"Authorization": keys.access_key, "X-Amz-Date": "20260101T000000Z"}

    def frame(self, keys: Keys, _url: URL | str, body: bytes) -> bytes:
        return f"Authorization: {keys.access_key}\r\n\r\n".encode() + body
