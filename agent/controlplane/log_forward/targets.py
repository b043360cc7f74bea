"""What ``--log-forward`` names: CloudWatch Logs in a region, or Loki by its URL. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct
from yarl import URL

from agent.config.values import parse_region
from agent.errors import ConfigError

_CLOUDWATCH: Final = "cloudwatch:"
_MEND: Final = "write cloudwatch:REGION, or the URL of Loki, for example http://loki:3100"


class Target(Struct, frozen=True, kw_only=True):
    """One destination."""

    region: str = ""
    """Of CloudWatch Logs; empty for Loki."""
    url: str = ""
    """Of Loki; of an endpoint of CloudWatch Logs other than the region's."""
    headers_file: Path | None = None
    """Headers for Loki, one a line."""

    @property
    def name(self) -> str:
        """Names it in the log, and its cursor in the store."""
        if not self.region:
            return self.url
        return f"{_CLOUDWATCH}{self.region}{f',{self.url}' if self.url else ''}"


def parse(text: str, headers_file: Path | None = None) -> Target:
    """Return what an option says.

    Raises:
        ConfigError: it is not a destination.
    """
    if not text.startswith(_CLOUDWATCH):
        return Target(url=_url(text), headers_file=headers_file)
    region, comma, url = text.removeprefix(_CLOUDWATCH).partition(",")
    try:
        parse_region(region)
    except ValueError as error:
        raise ConfigError(f"{text}: the region {error}; {_MEND}") from None
    return Target(region=region, url=_url(url) if comma else "")


def _url(text: str) -> str:
    try:
        url = URL(text)
    except ValueError:
        raise ConfigError(f"{text}: is not a URL; {_MEND}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{text}: is not a URL of http or https; {_MEND}")
    if url.user or url.password:
        # It would be in the log and among the arguments of the process.
        raise ConfigError(
            "the URL holds a user or password, which others can see; put an Authorization header into "
            "--log-forward-headers"
        )
    return str(url.with_query(None).with_fragment(None)).rstrip("/")
