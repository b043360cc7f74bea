"""Who may command the control endpoint: whoever signs with one of its keys, or owns it.

Three doors, and each request comes by one:

- TCP: a signature with a key of the file, header or presigned (``front.signatures``). One that was
  captured is worth nothing a moment later: a signature is taken for a few seconds after it was seen
  first, because clients sign equal calls of one second alike, and never again.
- the Unix socket: the kernel says who calls, and root and the user that control runs as need no key.
- ``--open``, for labs: everybody who reaches the port.

A web page that a browser was led to is nobody's: requests with an ``Origin`` are refused, and where no
key is asked for, so are those that name another host than this one (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import socket
import struct
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from aiohttp import web
from msgspec import Struct

from agent.controlplane.front import signatures
from agent.controlplane.front.errors import ApiError
from agent.controlplane.front.signatures import Claim, SignatureRefused, SignedRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aiohttp.typedefs import Handler, Middleware

    from agent.controlplane.front.keys import Key

SAME_SIGNATURE_S: Final = 5.0
"""How long one signature is taken. The SDKs sign by whole seconds, and repeat a call that broke."""
_REMEMBERED: Final = 100_000
"""Most signatures that are remembered; the oldest go first, and can then be used again."""
_MEND: Final = "use a key of control: eval $(ecs-agent env)"
_PEER: Final = struct.Struct("3i")
_NAMES_OF_HERE: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class Caller(Struct, frozen=True):
    """Who makes a call."""

    name: str
    """Of the key; ``root`` for the owner by the Unix socket, ``anyone`` where the door is open."""


class Forbidden(ApiError):
    """The request comes from where no operator is."""

    status = 403
    code = "AccessDeniedException"


class Open:
    """Lets everybody in who calls this host by its own name."""

    def expect(self, _request: web.Request) -> None:
        """Return: anyone may call."""

    def check(self, _request: web.Request, _digest: str) -> Caller:
        """Return that anyone calls."""
        return Caller("anyone")


class Nobody:
    """Lets no operator in: for an address that serves agents."""

    def expect(self, _request: web.Request) -> None:
        """Raise ``Forbidden``."""
        raise Forbidden("This address serves agents only")

    def check(self, _request: web.Request, _digest: str) -> Caller:
        """Raise ``Forbidden``."""
        raise Forbidden("This address serves agents only")


class Owner:
    """Lets in by a Unix socket who could read the keys anyway; the kernel says who it is."""

    def expect(self, request: web.Request) -> None:
        """Return for the owner; raises ``Forbidden`` for other users of this machine."""
        self.check(request, "")

    def check(self, request: web.Request, _digest: str) -> Caller:
        """Return who calls; raises ``Forbidden`` for other users of this machine."""
        wire: socket.socket | None = (
            request.transport.get_extra_info("socket") if request.transport else None
        )
        if wire is None:
            raise Forbidden("The connection is gone")
        raw = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _pid, uid, _gid = _PEER.unpack(raw)
        if uid not in (0, os.geteuid()):
            raise Forbidden(f"User {uid} may not command this endpoint by its socket; {_MEND}")
        return Caller("root")


class Signed:
    """Lets in who signs with a key; for one event loop."""

    def __init__(
        self,
        keys: Mapping[str, Key],
        *,
        note: Callable[[str, str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what is let in.

        Args:
            keys: by their ids.
            note: is told the peer and the reason of each refusal.
            clock: Unix seconds.
        """
        self.keys = keys
        """Replace it to let in others from now on."""
        self._note = note
        self._clock = clock
        self._seen = _Seen()

    def expect(self, request: web.Request) -> None:
        """Return when a call carries what one of our keys may have signed; its body is not needed.

        Raises:
            SignatureRefused: whatever its body is, it is signed by nobody we know, or not just now.
        """
        with self._noted(request):
            self._claim(_call(request))

    def check(self, request: web.Request, digest: str) -> Caller:
        """Return who calls.

        Args:
            request: the call.
            digest: SHA-256 of its body as it was sent, in hexadecimal.

        Raises:
            SignatureRefused: it is signed by nobody we know, not as it must be, or not just now.
        """
        with self._noted(request):
            return self._check(_call(request, digest))

    @contextlib.contextmanager
    def _noted(self, request: web.Request) -> Iterator[None]:
        try:
            yield
        except SignatureRefused as error:
            self._note(request.remote or "", f"{error.name}: {error}")
            raise

    def _claim(self, call: SignedRequest) -> tuple[Claim, Key]:
        if not signatures.is_signed(call):
            raise SignatureRefused(
                "MissingAuthenticationTokenException", f"Missing Authentication Token: {_MEND}"
            )
        claim = signatures.read_claim(call)
        signatures.check_time(claim, self._clock())
        key = self.keys.get(claim.key_id)
        if key is None:
            raise SignatureRefused(
                "UnrecognizedClientException",
                f"The security token included in the request is invalid: {_MEND}",
            )
        return claim, key

    def _check(self, call: SignedRequest) -> Caller:
        claim, key = self._claim(call)
        signatures.check_whole(call, claim)
        if not signatures.makers((key.secret,), call, claim):
            raise signatures.mismatch(_MEND)
        if claim.expires_s is None and self._seen.is_old(claim.signature, self._clock()):
            raise signatures.mismatch(
                f"it was used more than {SAME_SIGNATURE_S:g} s ago; sign each call anew"
            )
        return Caller(key.name)


def _call(request: web.Request, digest: str = "") -> SignedRequest:
    return SignedRequest(request.method, request.raw_path, request.headers, digest)


class _Seen:
    """When each signature was seen first, for as long as its date would be taken."""

    def __init__(self) -> None:
        self._first: OrderedDict[bytes, float] = OrderedDict()

    def is_old(self, signature: str, now: float) -> bool:
        """Tell whether a signature was seen before, and not just now."""
        while self._first and (
            len(self._first) > _REMEMBERED
            or next(iter(self._first.values())) < now - 2 * signatures.SKEW_S
        ):
            self._first.popitem(last=False)
        digest = hashlib.blake2b(signature.encode(), digest_size=16).digest()
        return now - self._first.setdefault(digest, now) > SAME_SIGNATURE_S


def no_pages(*, own_names_only: bool) -> Middleware:
    """Return the middleware that refuses what a web page sent, which says where it is from.

    Args:
        own_names_only: also refuse requests that name another host than this one.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "Origin" in request.headers:
            return web.Response(status=403, text="not for web pages\n")
        if own_names_only and not is_own_name(request.headers.get("Host", "")):
            return web.Response(status=403, text="call this host by an address\n")
        return await handler(request)

    return middleware


def is_own_name(host: str) -> bool:
    """Tell whether a Host header names a host by an address or as this machine. Pure."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() in _NAMES_OF_HERE:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
