"""Identities for agents: ``POST /v1/identities`` signs a certificate, ``GET /v1/authority`` shows who signs.

The first needs a token, or the certificate that it renews. The second is open to everybody, because a host that joins has
to know the authority before it can trust control with its token: it compares the fingerprint. ``?at=SECONDS`` is the
clock of a host that cannot trust control because of the time; control logs how far it is off.

Tests: ``tests/unit/controlplane/agents/test_identity_calls.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.agents.longpoll.errors import InvalidRequest, NoSuchCall, StaleGeneration
from agent.controlplane.pki import names
from agent.controlplane.pki.identities import IdentityCopied, IdentityRevoked
from agent.controlplane.pki.requests import RequestRefused
from agent.errors import BAD_JSON
from agent.model.wire import CONTROL_NAME, AskedIdentity, AuthorityAnswer, HostIdentity
from agent.throttle import RepeatedWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent.controlplane.agents.bindings import Shown
    from agent.controlplane.agents.bound_hosts import BoundHosts
    from agent.controlplane.pki.certificates import Certificates

SKEW_TOLD_S: Final = 300.0
_asked = msgspec.json.Decoder(AskedIdentity)


def read(body: bytes) -> AskedIdentity:
    """Return what a call asks for; raises ``InvalidRequest``."""
    try:
        return _asked.decode(body)
    except BAD_JSON as error:
        raise InvalidRequest(f"the request for an identity cannot be read: {error}") from None


class IdentityCalls:
    """Answers them; for one event loop."""

    def __init__(self, certificates: Certificates | None, hosts: BoundHosts) -> None:
        """Take what signs, None where control has no TLS, and what is told of copies."""
        self._certificates = certificates
        self._identities = certificates.identities if certificates is not None else None
        self._hosts = hosts
        self._clocks = RepeatedWarning("the clock of a host is wrong, or control's is")

    def check(self, host_id: str) -> None:
        """Check that the identity of a verified certificate is admitted; raises ``StaleGeneration``."""
        if self._identities is None:
            raise StaleGeneration("control keeps no identities of hosts")
        try:
            self._identities.check(host_id)
        except IdentityRevoked as error:
            raise StaleGeneration(str(error)) from None

    @contextlib.contextmanager
    def watching(self, host_id: str, end: Callable[[], None]) -> Iterator[None]:
        """Call ``end`` once if the identity of a call is revoked within the block; empty for a call by a token."""
        if not host_id or self._identities is None:
            yield
            return
        with self._identities.watching(host_id, end):
            yield

    def watch(self, host_id: str, end: Callable[[], None]) -> bool:
        """Do the same until ``unwatch``; False, and nothing is watched, if it is admitted no longer."""
        return not host_id or (
            self._identities is not None and self._identities.watch(host_id, end)
        )

    def unwatch(self, host_id: str, end: Callable[[], None]) -> None:
        """Watch no longer; ignored if nothing is watched."""
        if host_id and self._identities is not None:
            self._identities.unwatch(host_id, end)

    async def issue(
        self, asked: AskedIdentity, shown: Shown, *, peer: Mapping[str, Any] | None, is_tls: bool
    ) -> HostIdentity:
        """Sign the certificate of a host, whose connection has the verified certificate ``peer``.

        Raises:
            InvalidRequest: the request is not signed.
            StaleGeneration: the identity was revoked, or is used by somebody else, too.
            NoSuchCall: control gives no identities, or does not see the host's TLS itself.
            StoreFailure: it could not be stored.
        """
        if self._identities is None or self._certificates is None or not is_tls:
            raise NoSuchCall("control gives no identities over this connection: it has no TLS")
        try:
            made = await self._identities.issue(
                asked.request,
                shown=names.shown_by(peer),
                hostname=asked.hostname,
                peer=shown.peer,
            )
        except RequestRefused as error:
            raise InvalidRequest(str(error)) from None
        except IdentityCopied as error:
            self._hosts.refuse_copy(f"the identity {shown.host}", shown, asked.hostname)
            raise StaleGeneration(str(error)) from None
        except IdentityRevoked as error:
            raise StaleGeneration(str(error)) from None
        return HostIdentity(
            id=made.id,
            certificate=made.signed.pem.decode(),
            expires_at=made.signed.expires_at,
            renew_at=made.renew_at,
            authority=self._certificates.authority.trusted_pem.decode(),
            control_name=CONTROL_NAME if self._certificates.serves_own else "",
        )

    def authority(self, at: float | None, now: float, peer: str) -> AuthorityAnswer:
        """Return who signs control's certificates; notes a host whose clock differs from ``now``.

        Raises:
            NoSuchCall: control signs none.
        """
        if at is not None and abs(at - now) > SKEW_TOLD_S:
            self._clocks.tell(peer=peer, ahead_s=round(at - now))
        if self._certificates is None:
            raise NoSuchCall("control signs no certificates: it has no TLS")
        return AuthorityAnswer(
            certificate=self._certificates.authority.pem.decode(),
            control_name=CONTROL_NAME if self._certificates.serves_own else "",
        )
