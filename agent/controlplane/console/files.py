"""The files of the page, read once, and how they are served.

Browsers ask each time whether a file has changed, and get 304 if it has not: after an upgrade of control, no
part of the old page stays.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "/console/"
SETTINGS: Final = "settings.json"
FOLDER: Final = Path(__file__).with_name("page")
_START: Final = "index.html"
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY: Final = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
"""Nothing from elsewhere, no script in the page itself, and no text that becomes a script."""
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class PageSettings(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the page must know before it can call anything; no secret."""

    region: str
    sign_in: str
    """``needed``, ``optional`` where everybody may read, or ``never`` where no key exists."""


class _File(Struct, frozen=True):
    body: bytes
    content_type: str
    tag: str
    """Digest of the body, as an entity tag."""


class PageFiles:
    """Serves the page at one address; stateless."""

    def __init__(self, files: Mapping[str, _File], *, everybody_reads: bool) -> None:
        """Take what ``load`` has read."""
        self._files = files
        self.everybody_reads = everybody_reads
        """Whether what the page shows needs no key."""

    @classmethod
    async def load(cls, settings: PageSettings, *, everybody_reads: bool) -> PageFiles:
        """Read the files of the page, which are installed with control.

        Args:
            settings: what the page is told.
            everybody_reads: whether what it shows needs no key.
        """
        files = await asyncio.to_thread(_read)
        body = msgspec.json.encode(settings)
        return cls(
            files | {SETTINGS: _file(body, "application/json")}, everybody_reads=everybody_reads
        )

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the page to an application."""
        router.add_get(PREFIX.rstrip("/"), self._lead)
        router.add_get(PREFIX + "{name:.*}", self._answer)

    async def _lead(self, _request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": PREFIX})

    async def _answer(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info["name"] or _START)
        if found is None:
            return web.Response(status=404, text="not a file of the console\n", headers=_HEADERS)
        headers = _HEADERS | {"ETag": f'"{found.tag}"'}
        known = request.if_none_match or ()
        if any(tag.value in (found.tag, "*") for tag in known):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=found.body, content_type=found.content_type, charset="utf-8", headers=headers
        )


def _read() -> dict[str, _File]:
    return {
        path.relative_to(FOLDER).as_posix(): _file(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _TYPES
    }


def _file(body: bytes, content_type: str) -> _File:
    return _File(body, content_type, hashlib.sha256(body).hexdigest()[:32])
