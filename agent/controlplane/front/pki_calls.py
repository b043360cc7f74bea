"""Calls of our own about certificates, for ``ecs-agent control pki``.

============================= ==============================================================
POST ``/control/pki``         ``AskPki`` → ``PkiView``
POST ``/control/pki/revoke``  ``RevokeHost`` → ``RevokedHost``
POST ``/control/pki/renew``   ``RenewCertificate`` → ``PkiView``
POST ``/control/pki/use``     ``UseAuthority`` → ``PkiView``
============================= ==============================================================

A policy allows them as ``control:GetCertificates``, ``control:RevokeHost``, ``control:RenewCertificate`` and
``control:UseAuthority``. The last one takes a private key, and so is only served where nobody can read it on the way: on the Unix
socket and with TLS.

Tests: ``tests/unit/controlplane/front/test_pki_calls.py``.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Final

import structlog
from msgspec import Struct

from agent.controlplane.agents import revoking
from agent.controlplane.agents.revoking import NoSuchHost
from agent.controlplane.front.noting import note_plain
from agent.controlplane.front.operators import CALLER
from agent.controlplane.front.own_answers import OwnCallRefused, answer, problem
from agent.controlplane.store.contract import StoreFailure
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from agent.controlplane.parts import Parts
    from agent.controlplane.pki.certificates import Certificates
    from agent.controlplane.records import HostIdentityRecord

    Ask = Callable[[web.Request, type[Any], str], Awaitable[Any]]

_REASON_MOST: Final = 256
_NONE = (
    "this control endpoint signs no certificates: it has no TLS; start it with --tls, or with --tls-certificate "
    "and --tls-key"
)
_log = structlog.get_logger(__name__)


class _Asked(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    pass


class AskPki(_Asked, frozen=True):
    """Ask for everything."""


class RevokeHost(_Asked, frozen=True):
    """Whose identity to revoke."""

    host: str
    """Id of the identity, or id or ARN of the container instance."""
    reason: str = ""


class RenewCertificate(_Asked, frozen=True):
    """What to sign anew."""

    authority: bool = False
    """A new authority in place of the present one; else control's own certificate alone."""


class UseAuthority(_Asked, frozen=True):
    """An operator's authority; ``repr`` does not show its key."""

    certificate: str
    key: str
    """Both are PEM."""

    def __repr__(self) -> str:
        return "UseAuthority()"


class _Told(Struct, frozen=True, rename="camel"):
    pass


class HostView(_Told, frozen=True):
    """The identity of a host."""

    id: str
    hostname: str
    instance_arn: str
    serial: str
    peer: str
    issued_at: float
    renewed_at: float
    expires_at: float
    revoked_at: float
    revoked_because: str


class PkiView(_Told, frozen=True):
    """What control signs, and with what."""

    name: str
    fingerprint: str
    begins_at: float
    expires_at: float
    server_expires_at: float
    """0 if an operator gave control's certificate."""
    server_serial: str
    now: float
    hosts: list[HostView]


class RevokedHost(_Told, frozen=True):
    """What was revoked."""

    id: str
    instance_arn: str
    """Of the container instance that was deregistered; empty if there was none."""


class PkiCalls:
    """Answers the calls at one address."""

    def __init__(self, parts: Parts, ask: Ask) -> None:
        """Take what is asked, and what admits and reads a call."""
        self._parts = parts
        self._ask = ask

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the calls to an application."""
        for path, kind, action, call in (
            ("", AskPki, "GetCertificates", self._show),
            ("/revoke", RevokeHost, "RevokeHost", self._revoke),
            ("/renew", RenewCertificate, "RenewCertificate", self._renew),
            ("/use", UseAuthority, "UseAuthority", self._use),
        ):
            router.add_post(f"/control/pki{path}", self._answering(kind, action, call))

    def _answering(
        self,
        kind: type[Any],
        action: str,
        call: Callable[[Certificates, Any, web.Request], Awaitable[Struct]],
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            try:
                asked = await self._ask(request, kind, f"control:{action}")
                certificates = self._parts.certificates
                if certificates is None:
                    raise OwnCallRefused(400, _NONE)
                done = answer(await call(certificates, asked, request))
            except OwnCallRefused as refused:
                return problem(refused.status, str(refused))
            except (ConfigError, StoreFailure) as error:
                _log.error("certificates not changed", action=action, error=str(error))
                return problem(500, str(error))
            if kind is not AskPki:
                self._note(request, action, asked)
            return done

        return handler

    def _note(self, request: web.Request, action: str, asked: Struct) -> None:
        shown = {} if isinstance(asked, UseAuthority) else _fields(asked)
        note_plain(
            self._parts,
            request,
            request[CALLER],
            operation=action,
            request_id=str(uuid.uuid4()),
            asked=shown,
        )

    async def _show(self, certificates: Certificates, _: AskPki, __: web.Request) -> PkiView:
        return await self._view(certificates)

    async def _view(self, certificates: Certificates) -> PkiView:
        authority, server = certificates.authority, certificates.server
        return PkiView(
            name=authority.name,
            fingerprint=authority.fingerprint,
            begins_at=authority.begins_at,
            expires_at=authority.expires_at,
            server_expires_at=server.expires_at if server is not None else 0.0,
            server_serial=server.serial if server is not None else "",
            now=self._parts.clock(),
            hosts=[_host(one) for one in await certificates.identities.list()],
        )

    async def _revoke(
        self, certificates: Certificates, asked: RevokeHost, _: web.Request
    ) -> RevokedHost:
        try:
            host_id, arn = await revoking.revoke(
                self._parts,
                certificates.identities,
                asked.host,
                reason=asked.reason[:_REASON_MOST] or "by an operator",
            )
        except NoSuchHost as error:
            raise OwnCallRefused(404, str(error)) from None
        return RevokedHost(host_id, arn)

    async def _renew(
        self, certificates: Certificates, asked: RenewCertificate, _: web.Request
    ) -> PkiView:
        if asked.authority:
            from agent.controlplane.pki.authority import Authority  # noqa: PLC0415 - loads a large library

            label = uuid.uuid4().hex
            await certificates.use(Authority.make(label, now=self._parts.clock()))
        elif not certificates.serves_own:
            raise OwnCallRefused(
                400,
                "control's certificate is the one of --tls-certificate; renew it where it was made, and restart "
                "control",
            )
        else:
            await certificates.renew_server()
        return await self._view(certificates)

    async def _use(
        self, certificates: Certificates, asked: UseAuthority, request: web.Request
    ) -> PkiView:
        if request.remote and not request.secure:
            raise OwnCallRefused(
                400, "a private key is not taken over plain HTTP; use control's Unix socket"
            )
        try:
            authority = await asyncio.to_thread(_read, asked)
        except ConfigError as error:
            raise OwnCallRefused(400, str(error)) from None
        await certificates.use(authority)
        return await self._view(certificates)


def _read(asked: UseAuthority) -> Any:
    """Return the authority that was sent; raises ``ConfigError``."""
    from agent.controlplane.pki.authority import Authority  # noqa: PLC0415 - loads a large library

    return Authority.parse(asked.certificate.encode(), asked.key.encode())


def _fields(asked: Struct) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in asked.__struct_fields__}


def _host(one: HostIdentityRecord) -> HostView:
    return HostView(**{name: getattr(one, name) for name in HostView.__struct_fields__})
