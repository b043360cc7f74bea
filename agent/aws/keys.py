"""Keys to sign with, as a value type that does not print its secrets. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from agent.errors import CredentialsMissing

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD: Final = re.compile(r"[!-~]+")
"""What an HTTP header and a signature can carry."""
_LIMIT: Final = 64 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """An access key, its secret, and the session token of a temporary one. Equal by content."""

    access_key: str
    secret_key: str
    session_token: str = ""
    expires_at: float | None = None
    """Unix time by AWS's clock; None if unknown."""

    def __repr__(self) -> str:
        """Show which keys these are, without their secrets."""
        return f"Keys(...{self.access_key[-4:]}, expires_at={self.expires_at})"

    def scrub(self, text: str) -> str:
        """Return a text, such as an answer of a server, with these secrets masked."""
        for secret in (self.secret_key, self.session_token):
            if secret:
                text = text.replace(secret, "***")
        return text


class KeySource(Protocol):
    """Where the keys of a call come from: this host's chain, or a role of a task."""

    async def keys(self) -> Keys:
        """Return keys to sign with.

        Raises:
            CredentialsMissing: there are none.
            CredentialsAwaited: control has yet to send them.
        """

    def refused(self, keys: Keys) -> None:
        """Note that AWS refused these keys: others are given from now on, where there are any."""


def checked(
    access_key: object, secret_key: object, session_token: object, expires_at: float | None = None
) -> Keys:
    """Return validated keys from an external source.

    Raises:
        CredentialsMissing: a key is missing or contains characters that are not allowed in a
            header; the text does not show it.
    """
    parts: Iterable[tuple[str, object]] = (
        ("the access key", access_key),
        ("the secret key", secret_key),
        ("the session token", session_token or "-"),
    )
    for name, part in parts:
        if not isinstance(part, str) or not part:
            raise CredentialsMissing(f"{name} is missing")
        if len(part) > _LIMIT or not _WORD.fullmatch(part):
            raise CredentialsMissing(f"{name} contains blanks or is not plain text")
    return Keys(str(access_key), str(secret_key), str(session_token or ""), expires_at)
