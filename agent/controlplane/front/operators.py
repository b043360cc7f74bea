"""Authentication of operators: by a signature with a key that control knows, or as the owner.

There are three ways, and each address uses one of them:

- TCP: a signature with a key from the file, of a user or of a role's session (``iam.directory``), in a header
  or presigned (``front.signatures``). A captured
  signature is soon useless: a signature is only valid for a few seconds after its first use. It is not
  limited to one use, because clients sign equal calls within one second identically.
- the Unix socket: the kernel says who calls; root and the user that control runs as need no key.
- ``--open``, for labs: everyone who can reach the port.

Web pages in a browser are never operators: requests with an ``Origin`` are refused, except those of control's own
console (``console.admission``). If no key is required, requests with the name of another host are refused too
(DNS rebinding).
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from aiohttp import web
from msgspec import Struct

from agent.controlplane.authorization.actions.rows import ANY
from agent.controlplane.authorization.caller import ROOT, Caller
from agent.controlplane.authorization.grants import Grants
from agent.controlplane.authorization.open_calls import AllowedCall
from agent.controlplane.front import permissions, signatures
from agent.controlplane.front.errors import ApiError
from agent.controlplane.front.signatures import Claim, SignatureRefused, SignedRequest
from agent.controlplane.iam.directory import SessionExpired
from agent.controlplane.iam.sessions import SessionInvalid
from agent.controlplane.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aiohttp.typedefs import Handler, Middleware

    from agent.controlplane.front.keys import Key
    from agent.controlplane.iam.directory import Directory

CALLER: Final = web.RequestKey("caller", Caller)
"""Where a request has its caller, once it is admitted: ``request[CALLER]``."""
CALL: Final = web.RequestKey("call", AllowedCall)
"""Where a call of our own has by what right it is made, for those that go on."""
SAME_SIGNATURE_S: Final = 5.0
"""How long one signature is valid. The SDKs sign with whole seconds, and repeat a failed call."""
_REMEMBERED: Final = 100_000
"""How many signatures are remembered; the oldest are dropped first, and could then be used again."""
_MEND: Final = "use a key of control: eval $(ecs-agent env)"
_PEER: Final = struct.Struct("3i")
_NAMES_OF_HERE: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class Admitted(Struct, frozen=True):
    """A caller that is one of the operators."""

    caller: Caller
    grants: Grants | None = None
    """What its policies say; None for one who may do everything."""


class Forbidden(ApiError):
    """The caller cannot be an operator, because of the address or the user."""

    status = 403
    code = "AccessDeniedException"


class Operators(ABC):
    """Decides who is an operator at one address; the base of all ways."""

    @abstractmethod
    def expect(self, request: web.Request) -> None:
        """Check that ``admit`` could succeed with some body; raises ``ApiError``."""

    @abstractmethod
    def admit(self, request: web.Request, digest: str) -> Admitted:
        """Return the caller, who has yet to be permitted what the call does; raises ``ApiError``.

        Args:
            request: the call.
            digest: SHA-256 of its body as it was sent, in hexadecimal.
        """

    def check_service(self, request: web.Request, digest: str, service: str) -> Caller:
        """Return a caller who may do everything with a service that is not served here; as ``check``."""
        admitted = self.admit(request, digest)
        if admitted.grants is not None:
            permissions.check_service(admitted.caller, admitted.grants, service)
        request[CALLER] = admitted.caller
        return admitted.caller

    def check(self, request: web.Request, digest: str, action: str = "") -> Caller:
        """Return a caller who may do everything, or whose policies allow an action on ``*``.

        The request then has the caller, under ``CALLER``.

        Args:
            request: the call.
            digest: as in ``admit``.
            action: such as ``control:GetUsage``; without one, policies allow nothing.

        Raises:
            ApiError: the caller is not admitted, or not permitted.
        """
        return permit(request, self.admit(request, digest), action)


def permit(
    request: web.Request, admitted: Admitted, action: str = "", resource: str = ANY
) -> Caller:
    """Return a caller who may do everything, or whose policies allow an action on a resource.

    The request then has the caller, under ``CALLER``, and its right, under ``CALL``. Raises ``ApiError``.
    """
    call = AllowedCall(admitted.caller, admitted.grants)
    if admitted.grants is not None:
        need = permissions.check_one(
            admitted.caller, admitted.grants, action or "control:*", request, resource
        )
        call = call._replace(needs=(need,))
    request[CALLER], request[CALL] = admitted.caller, call
    return admitted.caller


class Open(Operators):
    """Admits everyone."""

    def __init__(self, names: Names | None = None) -> None:
        """Take the names of this control endpoint, for the ARN of its root."""
        self._admitted = Admitted(Caller(ROOT, "anyone", (names or Names()).root()))

    def expect(self, request: web.Request) -> None:
        """Return, because anyone may call."""

    def admit(self, _request: web.Request, _digest: str) -> Admitted:
        """Return a caller without a name."""
        return self._admitted


class Nobody(Operators):
    """Admits no operators: for an address that only serves agents."""

    def expect(self, request: web.Request) -> None:
        """Raise ``Forbidden``."""
        raise Forbidden("This address serves agents only")

    def admit(self, _request: web.Request, _digest: str) -> Admitted:
        """Raise ``Forbidden``."""
        raise Forbidden("This address serves agents only")


class Owner(Operators):
    """Admits root and the owner on a Unix socket, who could read the keys anyway."""

    def __init__(self, names: Names | None = None) -> None:
        """Take the names of this control endpoint, for the ARN of its root."""
        self._admitted = Admitted(Caller(ROOT, "root", (names or Names()).root()))

    def expect(self, request: web.Request) -> None:
        """Return for the owner; raises ``Forbidden`` for other users of this machine."""
        self.admit(request, "")

    def admit(self, request: web.Request, _digest: str) -> Admitted:
        """Return the caller; raises ``Forbidden`` for other users of this machine."""
        wire: socket.socket | None = (
            request.transport.get_extra_info("socket") if request.transport else None
        )
        if wire is None:
            raise Forbidden("The connection is gone")
        raw = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _pid, uid, _gid = _PEER.unpack(raw)
        if uid not in (0, os.geteuid()):
            raise Forbidden(f"User {uid} may not use this endpoint through its socket; {_MEND}")
        return self._admitted


class Signed(Operators):
    """Admits callers who sign with a key of the file, of a user or of a session; for one event loop."""

    def __init__(
        self,
        keys: Mapping[str, Key],
        *,
        note: Callable[[str, str], None],
        clock: Callable[[], float] = time.time,
        names: Names | None = None,
        directory: Directory | None = None,
    ) -> None:
        """Take the keys.

        Args:
            keys: those of the file, by their ids; who has one may do everything.
            note: called with the peer and the reason of each refusal.
            clock: Unix seconds.
            names: of this control endpoint, for the ARN of its root.
            directory: knows the keys of users and sessions; None where there are none.
        """
        self._names = names or Names()
        self._directory = directory
        self._keys: dict[str, tuple[str, Admitted]] = {}
        self.take(keys)
        self._note = note
        self._clock = clock
        self._seen = _Seen()

    def take(self, keys: Mapping[str, Key]) -> None:
        """Admit, of callers with keys of the file, only those with one of these from now on."""
        arn = self._names.root()
        self._keys = {
            key.id: (key.secret, Admitted(Caller(ROOT, key.name, arn, key.id)))
            for key in keys.values()
        }

    def expect(self, request: web.Request) -> None:
        """Check that one of our keys may have signed a call; does not need its body.

        Raises:
            SignatureRefused: with any body, the call is not signed by a known key, or not recently.
        """
        with self._noted(request):
            self._claim(_call(request))

    def admit(self, request: web.Request, digest: str) -> Admitted:
        """Return the caller.

        Args:
            request: the call.
            digest: SHA-256 of its body as it was sent, in hexadecimal.

        Raises:
            SignatureRefused: it is not signed by a known key, not correctly, or not recently.
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

    def _claim(self, call: SignedRequest) -> tuple[Claim, str, Admitted]:
        if not signatures.is_signed(call):
            raise SignatureRefused(
                "MissingAuthenticationTokenException", f"Missing Authentication Token: {_MEND}"
            )
        claim = signatures.read_claim(call)
        signatures.check_time(claim, self._clock())
        known = self._keys.get(claim.key_id)
        if known is not None:
            return claim, *known
        return claim, *self._of_directory(claim)

    def _of_directory(self, claim: Claim) -> tuple[str, Admitted]:
        """Return the secret of a key of a user or session, and whose it is; raises ``SignatureRefused``."""
        try:
            if self._directory is not None and self._directory.may_know(claim.key_id):
                found = self._directory.credential(claim.key_id, claim.token, self._clock())
                return found.secret, Admitted(found.caller, found.grants)
        except SessionExpired:
            raise SignatureRefused(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ) from None
        except SessionInvalid:
            pass
        raise SignatureRefused(
            "UnrecognizedClientException",
            f"The security token included in the request is invalid: {_MEND}",
        )

    def _check(self, call: SignedRequest) -> Admitted:
        claim, secret, admitted = self._claim(call)
        signatures.check_whole(call, claim)
        if not signatures.makers((secret,), call, claim):
            raise signatures.mismatch(_MEND)
        if claim.expires_s is None and self._seen.is_old(claim.signature, self._clock()):
            raise signatures.mismatch(
                f"it was used more than {SAME_SIGNATURE_S:g} s ago; sign each call again"
            )
        return admitted


def _call(request: web.Request, digest: str = "") -> SignedRequest:
    return SignedRequest(request.method, request.raw_path, request.headers, digest)


class _Seen:
    """When each signature was first seen, for as long as its date is valid."""

    def __init__(self) -> None:
        self._first: OrderedDict[bytes, float] = OrderedDict()

    def is_old(self, signature: str, now: float) -> bool:
        """Return whether a signature was first seen too long ago."""
        while self._first and (
            len(self._first) > _REMEMBERED
            or next(iter(self._first.values())) < now - 2 * signatures.SKEW_S
        ):
            self._first.popitem(last=False)
        digest = hashlib.blake2b(signature.encode(), digest_size=16).digest()
        return now - self._first.setdefault(digest, now) > SAME_SIGNATURE_S


def no_pages(
    *, own_names_only: bool, admits: Callable[[web.Request], bool] | None = None
) -> Middleware:
    """Return the middleware that refuses requests of web pages, which have an ``Origin`` header.

    Args:
        own_names_only: also refuse requests with the name of another host.
        admits: tells which requests with an ``Origin`` are not refused for it; None for none.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "Origin" in request.headers and not (admits is not None and admits(request)):
            return web.Response(status=403, text="not for web pages\n")
        if own_names_only and not is_own_name(request.headers.get("Host", "")):
            return web.Response(status=403, text="call this host by an address\n")
        return await handler(request)

    return middleware


def is_own_name(host: str) -> bool:
    """Return whether a Host header has an IP address or a name of this machine. Pure."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() in _NAMES_OF_HERE:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
