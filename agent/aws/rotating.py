"""The rotating credentials file of ECS Anywhere, which the SSM agent rewrites while the host runs.

Reads one file, in a thread of the caller. Raises ``CredentialsMissing``; the text names the file
and what is wrong with it, and never shows its content.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from botocore import configloader
from botocore.exceptions import ConfigNotFound, ConfigParseError

from agent.aws.keys import checked
from agent.errors import CredentialsMissing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from agent.aws.keys import Keys

READ_AGAIN_S: Final = 60.0
"""The file is read again after this long, even if it did not change. Source: Amazon ECS agent
1.105.1, ecs-agent/credentials/providers."""
_EXPIRIES: Final = (
    "aws_session_expiration",
    "aws_credentials_expiration",
    "aws_expiration",
    "x_security_token_expires",
    "expiration",
)
"""Names that tools use for the expiry of a temporary key; the SSM agent writes none."""
_SIZE_LIMIT: Final = 1024 * 1024

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Identifies the version of each file; None for a file that is missing or not accessible."""


def stamp(paths: Sequence[Path]) -> Stamp:
    """Return the current versions of these files. Blocks; never fails."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def read(path: Path, profile: str) -> Keys | None:
    """Return the keys of a profile; None if there is no such file. Blocks.

    Raises:
        CredentialsMissing: the file cannot be read or has no complete keys for this profile. This
            also happens while the file is being written.
    """
    section = _section(path, profile)
    if section is None:
        return None
    try:
        return checked(
            section.get("aws_access_key_id"),
            section.get("aws_secret_access_key"),
            section.get("aws_session_token") or section.get("aws_security_token"),
            _expiry(section),
        )
    except CredentialsMissing as error:
        raise CredentialsMissing(f"{path}, profile {profile!r}: {error}") from None


def _section(path: Path, profile: str) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _SIZE_LIMIT or not path.is_file():
            raise CredentialsMissing(f"{path}: is not a credentials file")
        profiles = configloader.raw_config_parse(str(path))
    except (FileNotFoundError, NotADirectoryError, ConfigNotFound):
        return None
    except (ConfigParseError, UnicodeDecodeError):
        raise CredentialsMissing(f"{path}: is not a valid INI file") from None
    except OSError as error:
        raise CredentialsMissing(f"{path}: {error.strerror}") from None
    section = profiles.get(profile)
    if section is None:
        raise CredentialsMissing(f"{path}: has no profile {profile!r}")
    return dict(section)


def _expiry(section: dict[str, Any]) -> float | None:
    told = (section.get(name) for name in _EXPIRIES)
    return next((at for at in map(unix_time, told) if at is not None), None)


def unix_time(text: object) -> float | None:
    """Return the Unix time of an ISO 8601 text, in UTC by default; None for other texts. Pure."""
    if isinstance(text, datetime):
        moment = text
    else:
        try:
            moment = datetime.fromisoformat(str(text))
        except ValueError:
            return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, OSError, ValueError):
        return None
