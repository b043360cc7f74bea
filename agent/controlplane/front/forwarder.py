"""Sends calls on to services that control does not serve, where the operator says.

A call is sent on once its caller is known: its signature must be that of one of control's keys, as for control's own
APIs. The signature covers the body by its hash in ``X-Amz-Content-SHA256``, which S3's clients send; then the body is
passed on as it comes, and a body of another hash is not passed on to its end. Other services' bodies have no such
header, so they are read first, up to ``BODY_MOST_BYTES``. Parts of an upload that are signed one by one, and bodies that
are not signed, are for the target to check.

Control cannot tell what a call does at the target, so policies of users and roles count for services as a whole: all
actions of the service must be allowed on ``*``, and none denied.

Path, query and headers are passed on unchanged, and the Host header, too: the signature covers it, and a target that
checks signatures computes it with that host. Bodies are passed on both ways a chunk at a time, so a call takes little
memory however much it carries.

Tests: ``tests/unit/controlplane/front/test_forwarder.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import uuid
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from agent.controlplane.audit.record import is_recorded
from agent.controlplane.front import bodies, protocols
from agent.controlplane.front.bodies import Bodies, BodyRefused
from agent.controlplane.front.errors import ApiError, RequestEntityTooLargeException
from agent.controlplane.front.forward_targets import ANY
from agent.controlplane.front.forwarded_errors import refusal
from agent.controlplane.front.forwarded_names import operation_of
from agent.controlplane.front.noting import note_plain
from agent.listening.connection import prove

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.controlplane.authorization.caller import Caller
    from agent.controlplane.front.forward_targets import Target
    from agent.controlplane.front.operators import Operators
    from agent.controlplane.front.protocols import Addressed
    from agent.controlplane.parts import Parts

BODY_MOST_BYTES: Final = 16 * 2**20
"""Of a body that must be read before it is sent on; DynamoDB's largest requests are as large."""
_AT_ONCE: Final = 512
_LARGE_BYTES: Final = 128 * 1024
_LARGE_BODIES: Final = 4
"""Large bodies that are read first take memory, so only so many are taken at once. Small ones, such as those of calls
that wait for a message at the target, delay nobody."""
_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 60.0
"""How long the target, or the caller, may pause."""
_CHUNK_BYTES: Final = 64 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_OF_ONE_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that are between two neighbours; no client signs them."""


class _Cut(Exception):
    """A body that must not be passed on to its end."""


class Forwarder:
    """Sends calls on to targets; for one event loop. ``close`` it."""

    def __init__(
        self, parts: Parts, targets: Mapping[str, Target], session: aiohttp.ClientSession
    ) -> None:
        """Take what ``open`` made."""
        self._parts = parts
        self.targets = dict(targets)
        self._session = session
        self._bodies = Bodies(BODY_MOST_BYTES)
        self._rooms = asyncio.Semaphore(_LARGE_BODIES)

    @classmethod
    async def open(cls, parts: Parts, targets: Mapping[str, Target]) -> Forwarder:
        """Return a forwarder; it connects at the first call."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_AT_ONCE),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=_CONNECT_S, sock_connect=_CONNECT_S, sock_read=_SILENCE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        return cls(parts, targets, session)

    async def close(self) -> None:
        """End what is under way."""
        await self._session.close()

    def target(self, service: str) -> Target | None:
        """Return where calls of a service go; None if they go nowhere."""
        return self.targets.get(service) or self.targets.get(ANY)

    async def answer(
        self,
        request: web.Request,
        addressed: Addressed,
        target: Target,
        operators: Operators,
    ) -> web.StreamResponse:
        """Answer a call with what the target answers, or an error in the protocol of the call."""
        request_id = str(uuid.uuid4())
        try:
            operators.expect(request)
            async with contextlib.AsyncExitStack() as room:
                body, digest = await self._body(request, addressed, room)
                operation = operation_of(request, body or b"")
                caller = operators.check_service(request, digest, addressed.service)
                prove(request)
                call = _Forwarded(
                    self._parts, request, addressed, target, caller, request_id, operation
                )
                return await call.run(self._session, body, digest)
        except ApiError as error:
            return _error(addressed, *refusal(addressed.protocol, error), str(error), request_id)
        except BodyRefused as error:
            refused = RequestEntityTooLargeException(f"The request is refused: {error}.")
            return _error(
                addressed, *refusal(addressed.protocol, refused), str(refused), request_id
            )

    async def _body(
        self, request: web.Request, addressed: Addressed, room: contextlib.AsyncExitStack
    ) -> tuple[bytes | None, str]:
        """Return the body, None for one that is passed on as it comes, and what the signature has for its hash."""
        told = request.headers.get("X-Amz-Content-SHA256")
        if told is not None:
            return None, told
        if addressed.service == "s3":
            return None, _UNSIGNED
        if not request.body_exists:
            return b"", hashlib.sha256(b"").hexdigest()
        length = request.content_length
        if length is None or length > _LARGE_BYTES:
            await room.enter_async_context(self._rooms)
        body = await self._bodies.read(request)
        return body, await bodies.digest(body)


class _Forwarded:
    """One call that is sent on."""

    def __init__(
        self,
        parts: Parts,
        request: web.Request,
        addressed: Addressed,
        target: Target,
        caller: Caller,
        request_id: str,
        operation: str,
    ) -> None:
        self._parts = parts
        self._request = request
        self._addressed = addressed
        self._target = target
        self._caller = caller
        self._request_id = request_id
        self._operation = operation

    async def run(
        self, session: aiohttp.ClientSession, body: bytes | None, digest: str
    ) -> web.StreamResponse:
        """Send the call on, and return the answer, which was sent by then unless it is an error of ours."""
        request = self._request
        data = None
        if body is not None:
            data = _pieces(body) if body else None
        elif request.body_exists:
            data = _Passed(request, digest).chunks()
        url = URL(f"{self._target.url}{request.raw_path}", encoded=True)
        try:
            async with session.request(
                request.method,
                url,
                headers=_headers(request, self._target),
                data=data,
                allow_redirects=False,
            ) as answer:
                self._note(str(answer.status) if answer.status >= 400 else "")
                return await self._passed_back(answer)
        except _Cut as cut:
            return self._failed(400, "InvalidSignatureException", str(cut))
        except TimeoutError:
            return self._failed(504, "ServiceUnavailable", self._about("does not answer in time"))
        except aiohttp.ClientError as error:
            if isinstance(error.__cause__, _Cut):
                return self._failed(400, "InvalidSignatureException", str(error.__cause__))
            why = getattr(error, "strerror", None) or type(error).__name__
            return self._failed(503, "ServiceUnavailable", self._about(f"does not answer ({why})"))

    async def _passed_back(self, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = CIMultiDict(
            (name, value)
            for name, value in answer.headers.items()
            if name.lower() not in _OF_ONE_HOP
        )
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        await response.prepare(self._request)
        try:
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                async with asyncio.timeout(_SILENCE_S):
                    await response.write(chunk)
            async with asyncio.timeout(_SILENCE_S):
                await response.write_eof()
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            # The caller must not take a part for the whole.
            if self._request.transport is not None:
                self._request.transport.abort()
        return response

    def _about(self, what: str) -> str:
        return f"Calls of {self._addressed.service} go to {self._target.url}, which {what}."

    def _failed(self, status: int, code: str, text: str) -> web.StreamResponse:
        self._note(code, text)
        return _error(self._addressed, code, status, text, self._request_id)

    def _note(self, error: str, text: str = "") -> None:
        if not is_recorded(self._operation):
            return
        note_plain(
            self._parts,
            self._request,
            self._caller,
            source=f"{self._addressed.service}.amazonaws.com",
            operation=self._operation,
            request_id=self._request_id,
            asked={
                "forwardedTo": self._target.url,
                "method": self._request.method,
                "path": self._request.path[:1024],
            },
            error=error,
            error_text=text,
        )


class _Passed:
    """The body of a request, passed on as it comes."""

    def __init__(self, request: web.Request, digest: str) -> None:
        self._request = request
        self._digest = digest if _DIGEST.fullmatch(digest) else ""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raises ``_Cut`` before its end if it has another hash than the signature says."""
        content, held = hashlib.sha256(), b""
        while True:
            try:
                async with asyncio.timeout(_SILENCE_S):
                    chunk = await self._request.content.readany()
            except (web.RequestPayloadError, aiohttp.ClientError, OSError):
                raise _Cut("The body of the request ended too early.") from None
            except TimeoutError:
                raise _Cut("The body of the request did not arrive in time.") from None
            if not chunk:
                break
            if held:
                yield held
            # One chunk is held back, so that the target never has the whole of a body that is not the signed one.
            held = chunk
            content.update(chunk)
        if self._digest and content.hexdigest() != self._digest:
            raise _Cut("X-Amz-Content-SHA256 does not match the body.")
        if held:
            yield held


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body in parts, none of which the event loop is held by."""
    for at in range(0, len(body), _CHUNK_BYTES):
        yield body[at : at + _CHUNK_BYTES]


def _headers(request: web.Request, target: Target) -> CIMultiDict[str]:
    """Return the headers for the target: those of the caller, but for those between neighbours."""
    return CIMultiDict(
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in _OF_ONE_HOP and (target.keeps_host or name.lower() != "host")
    )


def _error(
    addressed: Addressed, code: str, status: int, text: str, request_id: str
) -> web.Response:
    told = protocols.error(addressed.protocol, code, text, request_id)
    headers = {"Content-Type": told.content_type, "x-amzn-RequestId": request_id}
    return web.Response(status=status, body=told.body, headers=headers | dict(told.headers))
