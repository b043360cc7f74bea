"""Calls of etcd's HTTP/JSON gateway (v3): endpoints, failover, authentication, and what errors mean.

An own thin client, because the kept async library speaks gRPC: ``grpcio`` and ``protobuf`` would cost the
daemon more memory than all of the rest of the store.

A call that only reads is tried at every endpoint. A call that changes something is tried at another endpoint
only if it certainly reached none: otherwise ``StoreUnavailable`` says that its outcome is unknown. Every call
ends in bounded time. An endpoint that failed is avoided for a while.

So many calls are under way at once, and others wait for a place before their time begins: an endpoint that is
busy must not look as if it hung. What keeps a control leading and its watch running does not wait.

Tests: ``tests/integration/controlplane/test_etcd_faults.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiohttp
import msgspec
from msgspec import Struct

from agent.controlplane.store.contract import StoreFull, StoreUnavailable
from agent.controlplane.store.etcd_errors import TokenRefused, failure_of
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

    from agent.controlplane.store.etcd_settings import EtcdSettings

AnswerT = TypeVar("AnswerT")

CONNECT_S: Final = 2.0
READ_S: Final = 3.0
"""For one try of a call that changes nothing."""
CHANGE_S: Final = 6.0
"""For a call that changes something: longer than an election of etcd, so that most survive one."""
MEND_S: Final = 120.0
"""For a defragmentation, in which a member answers nothing."""
AVOIDED_S: Final = 5.0
PLACES: Final = 64
"""Calls under way at once; more wait."""
PLACE_S: Final = 10.0
"""How long a call waits for a place."""
_LARGE_BYTES: Final = 1 << 18


class _Token(Struct):
    token: str = ""


class Header(Struct, frozen=True):
    """What comes with every answer."""

    cluster_id: int = 0
    revision: int = 0


class _Headed(Struct):
    header: Header = Header()


class NotAsked(StoreUnavailable):
    """The call has certainly reached no etcd."""


class EtcdClient:
    """Calls one etcd; for one event loop. ``close`` must be called."""

    def __init__(self, settings: EtcdSettings, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._tls = tls
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S)
        )
        self._places = asyncio.Semaphore(PLACES)
        self._token = ""
        self._login = asyncio.Lock()
        self._cluster_id = 0
        self._avoided: dict[str, float] = {}
        """Until when each endpoint that failed is avoided."""
        self.reached = ""
        """The endpoint that answered last."""

    @classmethod
    async def open(cls, settings: EtcdSettings) -> EtcdClient:
        """Return a client that has reached nothing yet.

        Raises:
            ConfigError: files of TLS cannot be used.
        """
        return cls(settings, await asyncio.to_thread(settings.tls))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints, as they are given."""
        return self._settings.endpoints

    def avoid(self, endpoint: str) -> None:
        """Prefer other endpoints for a while."""
        self._avoided[endpoint] = asyncio.get_running_loop().time() + AVOIDED_S

    def preferred(self) -> list[str]:
        """Return the endpoints in the order in which they are to be tried."""
        now = asyncio.get_running_loop().time()

        def place(endpoint: str) -> tuple[float, bool]:
            until = self._avoided.get(endpoint, 0.0)
            return (until if until > now else 0.0, endpoint != self.reached)

        return sorted(self.endpoints, key=place)

    async def read(
        self, path: str, body: Mapping[str, Any], kind: type[AnswerT], *, urgent: bool = False
    ) -> AnswerT:
        """Make a call that may be repeated; an urgent one does not wait for others.

        Raises:
            StoreUnavailable: no endpoint answered.
            StoreFailure: etcd refused it.
        """
        failure = StoreUnavailable("no endpoint")
        async with self._place(urgent):
            for endpoint in self.preferred():
                try:
                    return await self._call(endpoint, path, body, kind, limit_s=READ_S)
                except StoreFull:
                    raise
                except StoreUnavailable as error:
                    failure = error
        raise StoreUnavailable(f"etcd does not answer: {failure}") from failure

    async def change(
        self, path: str, body: Mapping[str, Any], kind: type[AnswerT], *, urgent: bool = False
    ) -> AnswerT:
        """Make a call that changes something, at most once; an urgent one does not wait for others.

        Raises:
            StoreUnavailable: it may have been done, or not.
            StoreFailure: etcd refused it, and did nothing.
        """
        failure = NotAsked("no endpoint")
        async with self._place(urgent):
            for endpoint in self.preferred():
                try:
                    return await self._call(endpoint, path, body, kind, limit_s=CHANGE_S)
                except NotAsked as error:
                    failure = error
        raise StoreUnavailable(f"etcd does not answer: {failure}") from failure

    @contextlib.asynccontextmanager
    async def _place(self, urgent: bool) -> AsyncIterator[None]:
        """Wait until a call may be under way.

        Raises:
            NotAsked: that took too long.
        """
        if urgent:
            yield
            return
        try:
            async with asyncio.timeout(PLACE_S):
                await self._places.acquire()
        except TimeoutError:
            raise NotAsked(
                f"more calls of etcd wait than it answers in {PLACE_S:g} s; make fewer at once"
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def at(
        self, endpoint: str, path: str, body: Mapping[str, Any], kind: type[AnswerT], limit_s: float
    ) -> AnswerT:
        """Make a call to one endpoint, without waiting for others; raises as ``change``."""
        return await self._call(endpoint, path, body, kind, limit_s=limit_s)

    @contextlib.asynccontextmanager
    async def stream(
        self, endpoint: str, path: str, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a call with an endless answer; yields an iterator of its lines.

        Raises:
            StoreUnavailable: the endpoint does not answer, or the stream broke.
            StoreFailure: etcd refused it.
        """
        async with contextlib.AsyncExitStack() as stack:
            response: aiohttp.ClientResponse | None = None
            while response is None:
                token = await self._current_token(endpoint)
                try:
                    with self._named(endpoint):
                        async with asyncio.timeout(READ_S):
                            answer: aiohttp.ClientResponse = await stack.enter_async_context(
                                self._post(endpoint, path, body, token)
                            )
                            if answer.status != 200:
                                raise failure_of(endpoint, await answer.read())
                            response = answer
                except TokenRefused:
                    self._forget_token(token)
            yield self._lines(endpoint, response)

    async def _lines(self, endpoint: str, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        rest = bytearray()
        with self._named(endpoint):
            async for chunk in response.content.iter_any():
                rest += chunk
                if b"\n" not in chunk:
                    continue
                *lines, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                for line in lines:
                    if line.strip():
                        yield line
        raise StoreUnavailable(f"{endpoint} ended a watch")

    def _post(self, endpoint: str, path: str, body: Mapping[str, Any], token: str) -> Any:
        data = msgspec.json.encode(body)
        return self._session.post(
            endpoint + path,
            # What is large is sent in parts, between which others run.
            data=io.BytesIO(data) if len(data) > _LARGE_BYTES else data,
            headers={"Content-Type": "application/json"}
            | ({"Authorization": token} if token else {}),
            ssl=self._tls if self._tls is not None else True,
            allow_redirects=False,
        )

    async def _call(
        self,
        endpoint: str,
        path: str,
        body: Mapping[str, Any],
        kind: type[AnswerT],
        *,
        limit_s: float,
    ) -> AnswerT:
        for is_last in (False, True):
            token = await self._current_token(endpoint)
            try:
                answer = await self._once(endpoint, path, body, token, limit_s)
            except TokenRefused as refused:
                self._forget_token(token)
                if is_last:
                    raise StoreUnavailable(
                        f"{endpoint} refuses each new token: {refused}"
                    ) from None
                continue
            return self._decoded(endpoint, answer, kind)
        raise AssertionError("unreachable")

    def _decoded(self, endpoint: str, answer: bytes, kind: type[AnswerT]) -> AnswerT:
        try:
            cluster_id = msgspec.json.decode(answer, type=_Headed, strict=False).header.cluster_id
            found = msgspec.json.decode(answer, type=kind, strict=False)
        except BAD_JSON as error:
            raise StoreUnavailable(f"{endpoint} is no etcd: its answer is wrong: {error}") from None
        self._check_cluster(endpoint, cluster_id)
        self.reached = endpoint
        self._avoided.pop(endpoint, None)
        return found

    def _check_cluster(self, endpoint: str, cluster_id: int) -> None:
        if not cluster_id:
            return
        self._cluster_id = self._cluster_id or cluster_id
        if cluster_id != self._cluster_id:
            self._avoided[endpoint] = float("inf")
            raise StoreUnavailable(
                f"{endpoint} is a member of another etcd cluster than the first endpoint that answered; "
                "name only members of one cluster"
            )

    async def _once(
        self, endpoint: str, path: str, body: Mapping[str, Any], token: str, limit_s: float
    ) -> bytes:
        with self._named(endpoint):
            async with (
                asyncio.timeout(limit_s),
                self._post(endpoint, path, body, token) as response,
            ):
                answer: bytes = await response.read()
                if response.status != 200:
                    raise failure_of(endpoint, answer)
                return answer

    @contextlib.contextmanager
    def _named(self, endpoint: str) -> Any:
        """Turn failures of the connection into those of the store, and avoid the endpoint."""
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self.avoid(endpoint)
            raise NotAsked(f"{endpoint} cannot be reached: {error}") from error
        except TimeoutError as error:
            self.avoid(endpoint)
            raise StoreUnavailable(f"{endpoint} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            self.avoid(endpoint)
            raise StoreUnavailable(f"{endpoint} broke off: {error!r}") from error
        except StoreFull:
            raise
        except StoreUnavailable:
            self.avoid(endpoint)
            raise

    async def _current_token(self, endpoint: str) -> str:
        if not self._settings.user or self._token:
            return self._token
        async with self._login:
            if not self._token:
                password = await asyncio.to_thread(self._settings.password)
                body = {"name": self._settings.user, "password": password}
                try:
                    answer = await self._once(endpoint, "/v3/auth/authenticate", body, "", READ_S)
                except NotAsked:
                    raise
                except StoreUnavailable as error:
                    # To authenticate changes nothing, so another endpoint may be asked.
                    raise NotAsked(str(error)) from error
                self._token = msgspec.json.decode(answer, type=_Token).token
            return self._token

    def _forget_token(self, token: str) -> None:
        if self._token == token:
            self._token = ""
