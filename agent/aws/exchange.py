"""One signed call to AWS: deadlines, retries, and recovery from a wrong clock or stale keys.

Uses the network. Raises only ``AwsRefused``, ``AwsUnavailable`` and what its source of keys raises,
whatever the server does; no error text contains a secret. Stateless; several tasks may use it at the
same time.

Tests: ``tests/unit/aws/test_api.py``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from msgspec import Struct
from msgspec.structs import replace
from yarl import URL

from agent.aws.faults import Fault
from agent.aws.http import read_body, worded
from agent.errors import AwsRefused, AwsUnavailable

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from agent.aws.http import AwsHttp
    from agent.aws.keys import Keys, KeySource
    from agent.aws.signing import Signer

ATTEMPTS: Final = 3
ATTEMPT_S: Final = 42.0
"""Limit for one attempt. Source: Amazon ECS agent 1.105.1, ecs-agent/httpclient: 30 s to connect,
10 s for TLS, 2 s for the answer."""
WAIT_LIMIT_S: Final = 20.0
"""Longest wait between two attempts. Source: the standard retryer of Amazon's SDK."""
ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Largest accepted answer, after decompression."""


class _Failed(Exception):
    """An attempt was answered with an error."""

    def __init__(self, fault: Fault, keys: Keys) -> None:
        super().__init__()
        self.fault = fault
        self.keys = keys


class _Dropped(AwsUnavailable):
    """The server closed the connection without an answer."""


class AwsCall(Struct, frozen=True, kw_only=True):
    """The parameters of one call."""

    what: str
    """Name of the call in error texts."""
    headers: Mapping[str, str]
    body: bytes
    attempts: int
    limit_s: float
    """Limit for one attempt."""
    method: str = "POST"
    url: URL | None = None
    """Where to; None for the endpoint."""
    limit_bytes: int = 0
    """Largest answer that may come, a larger one is refused for good; 0 if no answer is that large."""
    read: Callable[[bytes], Any]
    """Parses the body of a success; raises ``ValueError`` if it is invalid."""
    judge: Callable[[int, Mapping[str, str], bytes], Fault]
    """Parses the answer of a failure."""


class Exchange:
    """Makes calls to one endpoint of one service."""

    def __init__(
        self,
        http: AwsHttp,
        chain: KeySource,
        signer: Signer,
        endpoint: URL,
        *,
        first_wait_s: float = 1.0,
        dice: random.Random | None = None,
    ) -> None:
        """``first_wait_s`` is the longest wait after the first attempt; it doubles each time."""
        self._http = http
        self._chain = chain
        self._signer = signer
        # A proxy gets the whole URL, and some proxies require a path in it.
        self._endpoint = endpoint if endpoint.path != "/" else endpoint.with_path("/")
        self._first_wait_s = first_wait_s
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, guards nothing

    async def make(self, call: AwsCall) -> Any:
        """Make a call and return the result of ``call.read``.

        An attempt that was refused because of its keys or its time is repeated once, at once, if
        other keys or another time are available. So is an attempt whose connection was closed
        before an answer came. These attempts do not count as retries.
        """
        attempt = 1
        mended: set[str] = set()
        while True:
            try:
                return await self._attempt(call)
            except _Failed as failed:
                mend = await self._mend(failed, mended)
                if mend:
                    mended.add(mend)
                    continue
                error = failed.fault.error(call.what)
            except _Dropped as dropped:
                # Most likely an idle connection that was closed just as it was used again.
                if "connection" not in mended:
                    mended.add("connection")
                    continue
                error = dropped
            except AwsUnavailable as unavailable:
                error = unavailable
            if not isinstance(error, AwsUnavailable) or attempt >= call.attempts:
                raise error
            await asyncio.sleep(self._wait_s(attempt, error.retry_after_s))
            attempt += 1

    async def _mend(self, failed: _Failed, mended: set[str]) -> str:
        """Fix what may have caused the failure; return what was fixed, empty for nothing."""
        fault = failed.fault
        if fault.may_be_skewed and "clock" not in mended and self._signer.clock.learn(fault.date):
            return "clock"
        if fault.is_stale_keys and "keys" not in mended:
            self._chain.refused(failed.keys)
            if await self._chain.keys() != failed.keys:
                return "keys"
        return ""

    def _wait_s(self, attempt: int, retry_after_s: float) -> float:
        whole = min(self._first_wait_s * 2.0 ** min(attempt - 1, 32), WAIT_LIMIT_S)
        return min(max(whole * self._dice.random(), retry_after_s), WAIT_LIMIT_S)

    async def _attempt(self, call: AwsCall) -> Any:
        keys = await self._chain.keys()
        try:
            async with asyncio.timeout(call.limit_s):
                status, headers, body = await self._send(call, keys)
        except TimeoutError as error:
            what = str(error) or f"no answer within {call.limit_s:g} s"
            raise AwsUnavailable(f"{call.what}: {what}") from None
        except aiohttp.ServerDisconnectedError:
            raise _Dropped(f"{call.what}: the connection was closed without an answer") from None
        except (aiohttp.ClientError, OSError, ValueError, EOFError) as error:
            raise AwsUnavailable(f"{call.what}: {keys.scrub(worded(error))}") from None
        if status != 200:
            told = call.judge(status, headers, body)
            raise _Failed(_scrubbed(told, keys), keys)
        try:
            return call.read(body)
        except ValueError as error:
            raise AwsUnavailable(f"{call.what}: {error}") from None

    async def _send(self, call: AwsCall, keys: Keys) -> tuple[int, CIMultiDictProxy[str], bytes]:
        url = call.url or self._endpoint
        signed = self._signer.headers(
            keys, method=call.method, url=url, headers=call.headers, body=call.body
        )
        async with self._http.session.request(
            call.method,
            url,
            data=call.body or None,
            headers={**call.headers, **signed},
            allow_redirects=False,
            proxy=self._http.proxy_for(url),
        ) as response:
            if response.status == 200 and call.limit_bytes:
                return 200, response.headers, await _limited(response, call)
            body = await read_body(response, ANSWER_BYTES, call.what)
            return response.status, response.headers, body


async def _limited(response: aiohttp.ClientResponse, call: AwsCall) -> bytes:
    try:
        return await read_body(response, call.limit_bytes, call.what)
    except AwsUnavailable as error:
        raise AwsRefused(str(error), code="EntityTooLarge", status=200) from None


def _scrubbed(fault: Fault, keys: Keys) -> Fault:
    return replace(fault, text=keys.scrub(fault.text), code=keys.scrub(fault.code))
