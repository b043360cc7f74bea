"""Bodies, query and answers of the agents' wire: read with limits, written as JSON.

Whatever cannot be read is an ``InvalidRequest`` that says why. Nothing here does I/O.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from aiohttp import web

from agent.controlplane.agents import bindings, host_rules, usage_rules
from agent.controlplane.agents.bindings import Shown
from agent.controlplane.agents.longpoll.errors import InvalidRequest, TryAgain, Unauthorized
from agent.controlplane.agents.tokens import Admission
from agent.controlplane.bounds import OutOfBounds
from agent.errors import BAD_JSON
from agent.model.usage import Usage
from agent.model.wire import (
    GENERATION_HEADER,
    HOST_KEY_HEADER,
    SESSION_HEADER,
    ErrorBody,
    InstanceStatus,
    Register,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN: Final = web.RequestKey("shown", Shown)
"""Where a request has what it shows of its host, once it is admitted."""
ADMISSION: Final = web.RequestKey("admission", Admission)
"""Where it has how it was admitted."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_GZIP_FROM_BYTES: Final = 1024
_GZIP_IN_THREAD_BYTES: Final = 64 * 1024
_READ_IN_THREAD_BYTES: Final = 64 * 1024

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_register = msgspec.json.Decoder(Register)
_usage = msgspec.json.Decoder(Usage)
_status = msgspec.json.Decoder(InstanceStatus)


async def read_body(read: Callable[[bytes], T], body: bytes) -> T:
    """Read a body; others do not wait for a large one."""
    if len(body) < _READ_IN_THREAD_BYTES:
        return read(body)
    return await asyncio.to_thread(read, body)


def read_registration(body: bytes) -> Register:
    """Return what a host says of itself; raises ``InvalidRequest``."""
    try:
        host_rules.look(body)
    except OutOfBounds as error:
        raise InvalidRequest(f"the registration is not taken: {error}") from None
    return _decode(_register, body)


def read_usage(body: bytes) -> Usage:
    """Return the usage that an agent reports; raises ``InvalidRequest``."""
    try:
        usage_rules.look(body)
        usage = _decode(_usage, body)
        usage_rules.check(usage)
    except OutOfBounds as error:
        raise InvalidRequest(f"the usage is not taken: {error}") from None
    return usage


def read_status(body: bytes) -> InstanceStatus:
    """Return the status that an agent asks for; raises ``InvalidRequest``."""
    return _decode(_status, body)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except BAD_JSON as error:
        raise InvalidRequest(f"the body cannot be read: {error}") from None


def number(request: web.Request, name: str) -> int:
    """Return a whole number of the query, 0 if it is absent; raises ``InvalidRequest``."""
    text = request.query.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidRequest(f"{name} must be a whole number, not {text[:32]!r}")
    return int(text)


def seconds(request: web.Request, name: str) -> float:
    """Return a number of seconds of the query, 0 if it is absent; raises ``InvalidRequest``."""
    text = request.query.get(name, "0")
    if not _SECONDS.fullmatch(text):
        raise InvalidRequest(f"{name} must be a number of seconds, not {text[:32]!r}")
    return float(text)


def generation(request: web.Request) -> int:
    """Return the number of the registration that the call is made for; raises ``InvalidRequest``."""
    text = request.headers.get(GENERATION_HEADER, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidRequest(f"the {GENERATION_HEADER} header must be the number of a registration")
    return int(text)


def shown(request: web.Request, admission: Admission, host: str = "") -> Shown:
    """Return what an admitted call shows of the host that it comes from."""
    return Shown(
        key=bindings.key_of(request.headers.get(HOST_KEY_HEADER, "")),
        name=admission.name,
        host=host,
        session=bindings.session_of(request.headers.get(SESSION_HEADER, "")),
        peer=request.remote or "",
    )


def answer(body: msgspec.Struct, status: int = 200) -> web.Response:
    """Return an answer; a long one is sent compressed."""
    encoded = _encode(body)
    response = web.Response(
        status=status,
        body=encoded,
        content_type="application/json",
        zlib_executor_size=_GZIP_IN_THREAD_BYTES,
    )
    if len(encoded) > _GZIP_FROM_BYTES:
        response.enable_compression()
    return response


def problem(status: int, code: str, message: str) -> web.Response:
    """Return an error as an answer, with what the agent is to do about it in its headers."""
    response = answer(ErrorBody(code=code, message=message), status)
    if status == TryAgain.status:
        response.headers["Retry-After"] = "1"
    if status == Unauthorized.status:
        response.headers["WWW-Authenticate"] = "Bearer"
        response.force_close()  # a stranger keeps no connection
    return response
