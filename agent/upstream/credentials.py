"""What the agent shows control, and whom it trusts: the token file and the extra authority.

Reads two small files in threads and nothing else. A token that cannot be read is
``ControlUnavailable``, because it may be put there at any moment; an authority that cannot be used
is a ``ConfigError``.

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
    """The token of one control endpoint: from a file, given as text, or none. For one event loop."""

    def __init__(self, *, file: Path | None = None, text: str = "") -> None:
        self.file = file
        self._known = text

    @property
    def is_asked_for(self) -> bool:
        """Whether calls carry a token."""
        return self.file is not None or bool(self._known)

    async def current(self) -> str:
        """Return the token as it was read last, empty for none.

        Raises:
            ControlUnavailable: the file cannot be read or holds no token; the text names the mend.
        """
        return self._known or await self.newest()

    async def newest(self) -> str:
        """Return the token as it is in the file now; raises as ``current`` does."""
        if self.file is None:
            return self._known
        self._known = ""  # a file that is broken must show, and not only after the next restart
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                self._known = await asyncio.to_thread(read_token, self.file)
        except (OSError, ValueError) as error:
            raise ControlUnavailable(f"ECS_CONTROL_TOKEN_FILE {worded(self.file, error)}") from None
        return self._known


def read_token(file: Path) -> str:
    """Return the first token of a file. Blocks.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no token, or something else beside tokens.
    """
    with file.open("rb") as source:
        raw = source.read(tokens.MAX_BYTES + 1)
    if len(raw) > tokens.MAX_BYTES:
        raise ValueError("is larger than 64 KiB; this is no token file")
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise ValueError(f"holds no token: byte {error.start} is not ASCII") from None
    return tokens.parse(text)[0]


def worded(file: Path, error: OSError | ValueError) -> str:
    """Return one line on why a token file is of no use, and the mend. Pure."""
    if isinstance(error, FileNotFoundError):
        return f"{file}: there is no such file; put a token of control's there"
    if isinstance(error, TimeoutError):
        return f"{file}: could not be read within {READ_LIMIT_S:g} s; look at its disk"
    if isinstance(error, IsADirectoryError):
        return f"{file}: is a directory; name the file in it that holds a token"
    if isinstance(error, OSError):
        return f"{file}: {error.strerror}; let root read it"
    return f"{file}: {error}"


def trusting(ca_file: Path) -> ssl.SSLContext:
    """Return a context that trusts the file's certificates besides the system's. Blocks.

    They may be of authorities or control's own.

    Raises:
        ConfigError: the file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    # What was made by hand often lacks what strict checks ask for since Python 3.13, for example the
    # key usage of `openssl req -x509`; and one host's certificate needs no authority at all.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    mend = "give a PEM file with the certificate of the authority that signed control's"
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        text = (
            f"ECS_CONTROL_CA_FILE {ca_file}: holds no usable certificate ({error.reason}); {mend}"
        )
        raise ConfigError(text) from None
    except OSError as error:
        raise ConfigError(f"ECS_CONTROL_CA_FILE {ca_file}: {error.strerror}; {mend}") from None
    return context


def is_readable_on_the_way(endpoint: URL) -> bool:
    """Return whether others on the network can read what is sent to this URL. Pure."""
    if endpoint.scheme == "https":
        return False
    host = endpoint.host or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
