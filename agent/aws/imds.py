"""EC2 instance metadata, version 2: what the instance knows about itself.

Uses one link-local address, never through a proxy. Raises only ``AwsUnavailable``; on a host
without the service, calls fail within seconds. One event loop, shared by all tasks.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from yarl import URL

from agent.aws.http import read_body, worded
from agent.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.aws.http import AwsHttp

ENDPOINT: Final = "http://169.254.169.254"
TOKEN_TTL_S: Final = 6 * 3600
"""The longest lifetime that the service allows."""
_TOKEN_USE_S: Final = TOKEN_TTL_S - 300
_TOKEN: Final = re.compile(r"[!-~]{1,1024}")
CONNECT_S: Final = 1.0
CALL_S: Final = 3.0
"""Limit for one request, including the connection."""
ANSWER_BYTES: Final = 256 * 1024
"""Largest accepted answer; the service's own limit is 16 KiB, for user data."""
INSIST_S: Final = 30.0
_FIRST_S: Final = 0.1
_MOST_S: Final = 5.0
"""Source: Amazon ECS agent 1.105.1, agent/api/ecsclient: 100 ms to 5 s, doubled, for 30 s."""


class _Unauthorized(Exception):
    """The service does not accept the token, or no longer accepts it."""


class Imds:
    """The metadata service of this instance, or of a test.

    Paths are relative to ``/latest/``, for example ``meta-data/instance-id``.
    """

    def __init__(
        self,
        http: AwsHttp,
        *,
        enabled: bool = True,
        endpoint: str = ENDPOINT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; if not ``enabled``, every call fails at once."""
        self.enabled = enabled
        self._http = http
        self._base = URL(endpoint)
        self._clock = clock
        self._token = ""
        self._token_until = 0.0
        self._getting_token = asyncio.Lock()

    async def text(self, path: str) -> str | None:
        """Return the text at a path, stripped; None if there is nothing (404).

        Makes one attempt, and a second one with a new token if the old token is refused.

        Raises:
            AwsUnavailable: there is no answer, or an error; ``code`` is its HTTP status as text, or
                empty if there was none.
        """
        if not self.enabled:
            raise AwsUnavailable("instance metadata is not used on this host")
        token = await self._current_token()
        try:
            return await self._get(path, token)
        except _Unauthorized:
            if token == self._token:
                self._token_until = 0.0
            token = await self._current_token()
        try:
            return await self._get(path, token)
        except _Unauthorized:
            raise _unavailable(path, 401) from None

    async def json(self, path: str) -> Any | None:
        """Return the JSON value at a path; None if there is nothing.

        Raises:
            AwsUnavailable: as in ``text``, or the text is not JSON.
        """
        text = await self.text(path)
        if text is None:
            return None
        try:
            return msgspec.json.decode(text)
        except (ValueError, RecursionError):
            raise AwsUnavailable(f"instance metadata: {path} is not valid JSON") from None

    async def insist(self, path: str, *, limit_s: float = INSIST_S) -> str | None:
        """Do the same as ``text``, but retry for up to ``limit_s``.

        Raises:
            AwsUnavailable: the last attempt failed too, or metadata is not used on this host.
        """
        until = self._clock() + limit_s
        wait_s = _FIRST_S
        while True:
            try:
                return await self.text(path)
            except AwsUnavailable:
                jittered_s = wait_s * random.uniform(1.0, 1.2)  # noqa: S311 - spreads load
                if not self.enabled or self._clock() + jittered_s > until:
                    raise
            await asyncio.sleep(jittered_s)
            wait_s = min(2 * wait_s, _MOST_S)

    async def _current_token(self) -> str:
        async with self._getting_token:
            if self._clock() >= self._token_until:
                path = "api/token"
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
                asked_at = self._clock()
                status, body = await self._exchange("PUT", path, headers)
                token = body.decode(errors="replace").strip()
                if status != 200:
                    raise _unavailable(path, status)
                if not _TOKEN.fullmatch(token):
                    raise AwsUnavailable("instance metadata: api/token is not a valid token")
                self._token, self._token_until = token, asked_at + _TOKEN_USE_S
            return self._token

    async def _get(self, path: str, token: str) -> str | None:
        status, body = await self._exchange("GET", path, {"X-aws-ec2-metadata-token": token})
        if status == 200:
            return body.decode(errors="replace").strip()
        if status == 404:
            return None
        if status == 401:
            raise _Unauthorized
        raise _unavailable(path, status)

    async def _exchange(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        what = f"instance metadata: {path}"
        try:
            url = self._base.joinpath(f"latest/{path}")
            async with (
                asyncio.timeout(CALL_S),
                self._http.session.request(
                    method,
                    url,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                ) as response,
            ):
                return response.status, await read_body(response, ANSWER_BYTES, what)
        except TimeoutError:
            raise AwsUnavailable(f"{what}: no answer from {self._base.authority}") from None
        except (aiohttp.ClientError, OSError, ValueError, EOFError) as error:
            raise AwsUnavailable(f"{what}: {worded(error)}") from None


def _unavailable(path: str, status: int) -> AwsUnavailable:
    return AwsUnavailable(f"instance metadata: {path} was answered {status}", code=str(status))
