"""The agent's token for control, and the certificates that it trusts: token file and CA file.

Reads two small files, in threads. A token that cannot be read is ``ControlUnavailable``, because
the file may be created at any time. A CA file that cannot be used is a ``ConfigError``.

Tests: ``tests/unit/upstream/test_tokens.py``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from typing import TYPE_CHECKING, Final

from agent.errors import ConfigError, ControlUnavailable
from agent.model import tokens

if TYPE_CHECKING:
    from pathlib import Path

    from yarl import URL

READ_LIMIT_S: Final = 5.0


class Token:
    """The token for one control endpoint: from a file, from a text, or none. For one event loop."""

    def __init__(self, *, file: Path | None = None, text: str = "") -> None:
        self.file = file
        self._known = text

    @property
    def is_asked_for(self) -> bool:
        """Whether calls carry a token."""
        return self.file is not None or bool(self._known)

    async def current(self) -> str:
        """Return the token as last read; empty if there is none.

        Raises:
            ControlUnavailable: the file cannot be read or has no token; the text names the fix.
        """
        return self._known or await self.newest()

    async def newest(self) -> str:
        """Return the token that is in the file now; raises as ``current`` does."""
        if self.file is None:
            return self._known
        self._known = ""  # a broken file must be reported now, not only after the next restart
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                self._known = await asyncio.to_thread(read_token, self.file)
        except (OSError, ValueError) as error:
            raise ControlUnavailable(f"ECS_CONTROL_TOKEN_FILE {worded(self.file, error)}") from None
        return self._known


def read_token(file: Path) -> str:
    """Return the first token in a file. Blocks.

    Raises:
        OSError: the file cannot be read.
        ValueError: it contains no token, or something that is not a token.
    """
    with file.open("rb") as source:
        raw = source.read(tokens.MAX_BYTES + 1)
    if len(raw) > tokens.MAX_BYTES:
        raise ValueError("is larger than 64 KiB: not a token file")
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not a token file: byte {error.start} is not ASCII") from None
    return tokens.parse(text)[0]


def worded(file: Path, error: OSError | ValueError) -> str:
    """Return one line on why a token file cannot be used, with the fix. Pure."""
    if isinstance(error, FileNotFoundError):
        return f"{file}: no such file; create it with one of control's tokens"
    if isinstance(error, TimeoutError):
        return f"{file}: could not be read within {READ_LIMIT_S:g} s; check its disk"
    if isinstance(error, IsADirectoryError):
        return f"{file}: is a directory; name the token file in it"
    if isinstance(error, OSError):
        return f"{file}: {error.strerror}; make it readable for root"
    return f"{file}: {error}"


def trusting(ca_file: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the file's certificates besides the system's. Blocks.

    They may be CA certificates or control's own.

    Raises:
        ConfigError: the file cannot be read or contains no certificate.
    """
    context = ssl.create_default_context()
    # Self-made certificates often lack fields that strict checks require since Python 3.13, for
    # example the key usage in the output of `openssl req -x509`. A host's own certificate needs no
    # CA.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    add_trusted(context, ca_file)
    return context


def add_trusted(context: ssl.SSLContext, ca_file: Path) -> None:
    """Have a context trust the certificates of a file, too; raises as ``trusting``. Blocks."""
    mend = "use a PEM file with the certificate of the CA that signed control's"
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        text = f"ECS_CONTROL_CA_FILE {ca_file}: has no usable certificate ({error.reason}); {mend}"
        raise ConfigError(text) from None
    except OSError as error:
        raise ConfigError(f"ECS_CONTROL_CA_FILE {ca_file}: {error.strerror}; {mend}") from None


def is_readable_on_the_way(endpoint: URL) -> bool:
    """Return whether others on the network can read what is sent to this URL. Pure."""
    if endpoint.scheme == "https":
        return False
    host = endpoint.host or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
