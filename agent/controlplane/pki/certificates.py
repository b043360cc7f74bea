"""The certificates of one control endpoint, while it serves: its authority, its own certificate, the hosts' identities.

The TLS context asks each client for a certificate and takes those of trusted authorities; a client without one is
served, too, and has to show a token or a signature. Control's own certificate is renewed at two thirds of its life, in the
context that is in use: connections stay, and new ones get the new certificate.

For one event loop, which alone changes the context; files are read and written in threads. Tests:
``tests/unit/controlplane/pki/test_certificates.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane.pki.authority import Authority, Signed
from agent.controlplane.pki.identities import HostIdentities, revoked_in
from agent.controlplane.pki.names import HOST_ID
from agent.controlplane.private_file import replace_file
from agent.controlplane.store.contract import StoreFailure
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from agent.controlplane.store.contract import Store

SERVER_FILE: Final = "server.pem"
REVOKED_FILE: Final = "revoked"
"""The ids of revoked identities, a line each: the store can be replaced by an older backup, and must not admit them again."""
RENEWED_AT: Final = 2 / 3
NAME_LIMIT_S: Final = 2.0
"""How long the look-up of this machine's full name may take."""
LOOK_S: Final = 3600.0
"""How often it is looked whether a certificate is due: clocks are set, and machines sleep."""
_log = structlog.get_logger(__name__)


class Certificates:
    """Everything that control signs, and its TLS context."""

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        context: ssl.SSLContext,
        store: Store,
        *,
        revoked: set[str],
        names: Sequence[str] | None,
        clock: Callable[[], float],
    ) -> None:
        """Take what ``open`` made; see there."""
        self._directory = directory
        self.authority = authority
        self.context = context
        self._names = names
        self._clock = clock
        self.identities = HostIdentities(
            store,
            lambda: self.authority,
            revoked=revoked,
            clock=clock,
            remember=lambda ids: _write_revoked(directory, ids),
        )
        self._server: Signed | None = None
        self._changing = asyncio.Lock()
        self._trouble = ""

    @classmethod
    async def open(
        cls,
        directory: Path,
        store: Store,
        *,
        label: str,
        given: ssl.SSLContext | None,
        names: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> Certificates:
        """Load the authority of a directory, or make it, and get TLS ready.

        Args:
            directory: of the files.
            store: has the identities of hosts.
            label: identifies this control in the name of a new authority.
            given: the context with an operator's certificate; None for a certificate of the authority.
            names: names and addresses for that certificate, besides those of this machine.
            clock: Unix seconds.

        Raises:
            ConfigError: a file cannot be used or written.
            StoreFailure: the store cannot be read.
        """
        try:
            authority = await asyncio.to_thread(_authority, directory, label, clock())
        except OSError as error:
            raise ConfigError(f"{directory}: {error.strerror}; choose another --data-dir") from None
        context = given or ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # The certificates of hosts need no more fields than these checks ask for without being strict.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_OPTIONAL
        # Neither agents nor AWS's tools resume sessions, and each ticket, with the host's certificate in it, takes
        # a sixth of what a connection costs.
        context.num_tickets = 0
        context.load_verify_locations(cadata=authority.trusted_pem.decode())
        revoked = await revoked_in(store)
        made = cls(
            directory,
            authority,
            context,
            store,
            revoked=revoked,
            names=None if given is not None else (*names, *await _own_names()),
            clock=clock,
        )
        await made.identities.revoke_again(await asyncio.to_thread(_revoked, directory) - revoked)
        await made.renew_server()
        return made

    @property
    def serves_own(self) -> bool:
        """Whether control's own certificate is of its authority."""
        return self._names is not None

    @property
    def server(self) -> Signed | None:
        """Control's own certificate; None if an operator gave it."""
        return self._server

    async def renew_server(self) -> None:
        """Sign a new certificate for control and use it for new connections, if the authority signs it.

        Raises:
            ConfigError: it cannot be written.
        """
        if self._names is None:
            return
        signed, key = await asyncio.to_thread(
            self.authority.sign_server, self._names, now=self._clock()
        )
        file = self._directory / SERVER_FILE
        try:
            await asyncio.to_thread(replace_file, file, key + signed.pem, mode=0o600)
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}; make room, or correct its mode") from None
        # Here, and not in a thread: between certificate and key, the context has neither for new connections. The
        # file was just written, so it is read from memory.
        self.context.load_cert_chain(file)
        self._server = signed
        _log.info(
            "control's certificate signed", serial=signed.serial, expires_at=signed.expires_at
        )

    async def use(self, other: Authority) -> None:
        """Sign with another authority from now on.

        Hosts that trust the old one still trust control, and their certificates stay valid.

        Raises:
            ConfigError: the files cannot be written; nothing has changed.
        """
        async with self._changing:
            new = self.authority.followed_by(other, now=self._clock())
            try:
                await asyncio.to_thread(new.save, self._directory)
            except OSError as error:
                raise ConfigError(
                    f"{self._directory}: {error.strerror}; nothing has changed"
                ) from None
            self.authority = new
            self.context.load_verify_locations(cadata=new.trusted_pem.decode())
            await self.renew_server()
        _log.warning("control signs with another authority", fingerprint=new.fingerprint)

    def problem(self) -> str:
        """Return what does not work, for a person; empty for nothing."""
        now = self._clock()
        if now < self.authority.begins_at:
            return (
                "certificates: control's clock is before the time at which its authority was made "
                f"({_day(self.authority.begins_at)}); set the clock"
            )
        if self.authority.expires_at - now < 90 * 86_400:
            return (
                f"certificates: control's authority expires at {_day(self.authority.expires_at)}; "
                "run 'ecs-agent control pki renew --authority'"
            )
        return self._trouble

    async def run(self) -> None:
        """Renew control's certificate when it is due, and forget old identities; until cancelled."""
        while True:
            try:
                await self.identities.sweep()
                if self._is_due():
                    await self.renew_server()
                self._trouble = ""
            except (ConfigError, StoreFailure) as error:
                self._trouble = f"certificates: {error}"
                _log.error("certificates not renewed", error=str(error))
            await asyncio.sleep(LOOK_S)

    def _is_due(self) -> bool:
        signed = self._server
        if signed is None:
            return False
        life_s = signed.expires_at - signed.not_before
        now = self._clock()
        return now > signed.not_before + life_s * RENEWED_AT or now < signed.not_before


def _authority(directory: Path, label: str, now: float) -> Authority:
    found = Authority.load(directory)
    if found is not None:
        return found
    made = Authority.make(label, now=now)
    made.save(directory)
    _log.info("authority made", directory=str(directory), fingerprint=made.fingerprint)
    return made


async def _own_names() -> list[str]:
    """Return names and addresses under which this machine may be called."""
    found = ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    # Asks name servers, which may not answer; control must not wait for them.
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(NAME_LIMIT_S):
            found.append(await asyncio.to_thread(socket.getfqdn))
    return [name for name in dict.fromkeys(found) if name]


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _revoked(directory: Path) -> set[str]:
    """Return the identities that were revoked, as far as the file beside the store knows.

    Raises:
        ConfigError: it cannot be read.
    """
    file = directory / REVOKED_FILE
    try:
        return {
            line for line in file.read_text("ascii", "replace").split() if HOST_ID.fullmatch(line)
        }
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; correct its mode") from None


def _write_revoked(directory: Path, ids: Collection[str]) -> None:
    text = "".join(f"{one}\n" for one in sorted(ids))
    replace_file(directory / REVOKED_FILE, text.encode(), mode=0o600)
