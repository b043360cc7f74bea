"""Gets this host a certificate from control's authority, and renews it at two thirds of its life.

Before the first registration the host makes a key and sends a request with its token; control answers with a certificate, and
from then on calls need no token. A renewed certificate is used for new connections; those that are open stay, so no
poll, order or report is lost. A control that gives no certificates is not asked again before the next registration.

Tests: ``tests/unit/upstream/certificates/test_host.py``.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from agent.errors import AgentError, ConfigError, ControlUnavailable
from agent.model.wire import AskedIdentity
from agent.upstream.certificates import key_pair, trust
from agent.upstream.certificates.files import IdentityFiles
from agent.upstream.longpoll.answers import CallUnknown, RequestRefused

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model.wire import HostIdentity
    from agent.upstream.certificates.files import Identity
    from agent.upstream.certificates.trust import Tls

LOOK_S: Final = 3600.0
"""Longest sleep before it is looked again whether renewal is due: clocks are set, and machines sleep."""
RETRY_S: Final = 300.0
_log = structlog.get_logger()


class Connections(Protocol):
    """What is needed of the connections to control; ``longpoll.http_client.HttpClient``."""

    is_certificate_refused: bool
    """Whether control has refused the certificate of this host."""

    async def identify(self, asked: AskedIdentity) -> HostIdentity:
        """Have a certificate request signed; raises ``ControlFailure``."""

    async def reconnect(self) -> None:
        """Close all connections, and read the certificate anew for the next ones."""

    def use_renewed(self) -> None:
        """Use the renewed certificate for new connections. Blocks for a moment; not to be called in a thread."""


class HostCertificate:
    """The certificate of this host for one control endpoint; for one event loop."""

    def __init__(self, files: IdentityFiles, endpoint: str, identity: Identity | None) -> None:
        """Take what ``open`` read."""
        self.files = files
        self._endpoint = endpoint
        self.identity = identity
        self.trouble = ""
        """Why it could not be renewed; empty if it was, or is not due."""
        self._changed = asyncio.Event()

    @classmethod
    async def open(cls, data_dir: Path, endpoint: str) -> HostCertificate:
        """Return the certificate of the files in a data directory, if it is for this endpoint."""
        files = IdentityFiles(data_dir)
        return cls(files, endpoint, await asyncio.to_thread(files.load, endpoint))

    def tls(self, ca_file: Path | None) -> Tls:
        """Return how to connect. Blocks for a moment.

        Raises:
            ConfigError: the CA file cannot be used.
        """
        try:
            return trust.prepare(ca_file, self.files, self._valid())
        except ConfigError as error:
            if self.identity is None:
                raise
            _log.error("the certificate of this host is set aside", error=str(error))
            self.identity = None
            return trust.prepare(ca_file)

    async def ensure(self, connections: Connections) -> None:
        """Get a certificate if there is none that control takes.

        Raises:
            ControlFailure: control does not answer, or refuses this host.
        """
        if not self._endpoint.startswith("https:"):
            return
        if self._valid() is not None and not connections.is_certificate_refused:
            return
        if self.identity is not None:
            _log.warning(
                "the certificate of this host is of no use any more; the token has to prove the host again",
                expired=self.identity.expires_at <= time.time(),
            )
            self.identity = None
            await connections.reconnect()
        try:
            await self._get(connections)
        except CallUnknown:
            return
        except RequestRefused as error:
            _log.warning("control gives this host no certificate", error=str(error))
            return
        await connections.reconnect()

    async def run(self, connections: Connections) -> None:
        """Renew the certificate whenever it is due, until cancelled."""
        while True:
            identity = self.identity
            if identity is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            left_s = identity.renew_at - time.time()
            if left_s > 0:
                await asyncio.sleep(min(left_s, LOOK_S))
                continue
            try:
                await self._get(connections)
                connections.use_renewed()
                self.trouble = ""
            except AgentError as error:
                self.trouble = f"the certificate of this host is not renewed: {error}"
                _log.warning("certificate not renewed", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _get(self, connections: Connections) -> None:
        pair = await key_pair.make_elsewhere()
        asked = AskedIdentity(request=pair.request, hostname=os.uname().nodename)
        issued = await connections.identify(asked)
        try:
            self.identity = await asyncio.to_thread(
                self.files.save, pair.key, issued, self._endpoint
            )
        except OSError as error:
            raise ControlUnavailable(
                f"{self.files.directory}: {error.strerror}; the certificate cannot be kept"
            ) from None
        self._changed.set()
        _log.info("this host has a certificate", identity=issued.id, expires_at=issued.expires_at)

    def _valid(self) -> Identity | None:
        identity = self.identity
        return identity if identity is not None and identity.expires_at > time.time() else None
