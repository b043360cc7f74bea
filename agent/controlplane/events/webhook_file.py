"""The file that names a webhook: its URL, and headers for it. Blocking.

A file, because either may hold a secret, and arguments of a process can be read by every user of its host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, field
from yarl import URL

from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_OWN: Final = frozenset(
    {"content-type", "content-length", "transfer-encoding", "host", "connection"}
)
_MEND: Final = "write the URL on its first line, and a header on each further one, as Name: value"


class Webhook(Struct, frozen=True):
    """Where events are sent. Never shown but for ``name``."""

    url: URL
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Scheme, host and port: the rest of a URL may be a secret."""
        return str(self.url.origin())

    def __repr__(self) -> str:
        return f"Webhook({self.name})"


def read(path: Path) -> Webhook:
    """Return what a file says.

    Raises:
        ConfigError: it cannot be read, or says something else; the text quotes nothing of it.
    """
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not text"
        raise ConfigError(f"--event-webhook-file {path}: {why}") from None
    kept = [(n, line) for n, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not kept:
        raise ConfigError(f"--event-webhook-file {path}: is empty; {_MEND}")
    (number, first), *others = kept
    try:
        url = URL(first)
        good = url.scheme in ("http", "https") and bool(url.host) and first.isprintable()
    except ValueError:
        good = False
    if not good:
        raise ConfigError(
            f"--event-webhook-file {path}: line {number} is not a URL of http or https; {_MEND}"
        )
    headers = dict(_header(path, number, line) for number, line in others)
    if (url.user or url.password) and "authorization" in map(str.lower, headers):
        raise ConfigError(
            f"--event-webhook-file {path}: its URL has a user or a password, and a header is Authorization; "
            "remove one of them"
        )
    return Webhook(url, headers)


def _header(path: Path, number: int, line: str) -> tuple[str, str]:
    name, colon, value = (part.strip() for part in line.partition(":"))
    is_name = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not colon or not is_name or not value.isprintable() or not value:
        raise ConfigError(f"--event-webhook-file {path}: line {number} is not a header; {_MEND}")
    if name.lower() in _OWN:
        raise ConfigError(
            f"--event-webhook-file {path}: line {number} is a header that control sets; remove it"
        )
    return name, value
