"""The files of a host's certificate. Blocks.

``host.pem`` has the key and the certificate, ``authority.pem`` whom to trust as control, ``identity.json`` what the agent
has to know of them. They are replaced one by one, in this order: after a crash in between, the certificate is
renewed once more.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model.wire import HostIdentity

DIRECTORY: Final = "identity"


class Identity(Struct, frozen=True, rename="camel"):
    """What is known of the host's certificate."""

    id: str
    endpoint: str
    """URL of the control that issued it: it is of no use at another."""
    expires_at: float
    renew_at: float
    """Unix times."""
    control_name: str = ""
    """The name in control's certificate; empty for that of the URL."""


class IdentityFiles:
    """The files in one directory."""

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir / DIRECTORY
        self.chain = self.directory / "host.pem"
        self.authority = self.directory / "authority.pem"
        self._about = self.directory / "identity.json"

    def load(self, endpoint: str) -> Identity | None:
        """Return the identity for a control endpoint; None if there is none, or it cannot be read."""
        try:
            found = msgspec.json.decode(self._about.read_bytes(), type=Identity)
        except (*BAD_JSON, OSError):
            return None
        return found if found.endpoint == endpoint and self.chain.exists() else None

    def save(self, key: str, issued: HostIdentity, endpoint: str) -> Identity:
        """Keep a certificate that was just issued; raises ``OSError``."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = Identity(
            id=issued.id,
            endpoint=endpoint,
            expires_at=issued.expires_at,
            renew_at=issued.renew_at,
            control_name=issued.control_name,
        )
        _replace(self.chain, (key + issued.certificate).encode())
        _replace(self.authority, issued.authority.encode())
        _replace(self._about, msgspec.json.encode(identity))
        return identity

    def remove(self) -> None:
        """Forget the certificate; files that are not there are fine."""
        for file in (self._about, self.chain, self.authority):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()


def _replace(file: Path, data: bytes) -> None:
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        new.replace(file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        raise
