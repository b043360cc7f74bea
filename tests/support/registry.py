"""A small image registry on the loopback, for real pulls and for failures on demand.

It implements as much of the registry protocol (version 2) as the engine uses; the engine accepts
plain HTTP from the loopback.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry:
    """Stores images in memory. Use it as an async context manager.

    Attributes:
        asked: method and path of every request.
        authorizations: every value of that header; empty for a request without it.
        credentials: ``user:password`` that is required; empty for none.
        failures: how many of the next requests get status 500.
        open: while it is cleared, all answers are delayed.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.authorizations: set[str] = set()
        self.credentials = ""
        self.failures = 0
        self.open = asyncio.Event()
        self.open.set()
        self._blobs: dict[str, bytes] = {}
        self._layers: set[str] = set()
        self._manifests: dict[tuple[str, str], bytes] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def host(self) -> str:
        """Address and port, as in image names."""
        return f"127.0.0.1:{self._port}"

    def manifests_asked(self) -> int:
        """Return how many times a manifest was requested."""
        return sum("/manifests/" in line for line in self.asked)

    def layers_asked(self) -> int:
        """Return how many times a layer was requested."""
        return sum(line.rpartition("/")[2] in self._layers for line in self.asked)

    def push(self, repository: str, tag: str, content: bytes, *, architecture: str) -> str:
        """Store an image with one file, which it runs; return its digest."""
        layer = _layer(content)
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/content"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        # Stored, not compressed: a layer of a large image is random data, which only costs time to try.
        blobs = (json.dumps(config).encode(), gzip.compress(layer, compresslevel=0, mtime=0))
        self._layers.add(_digest(blobs[1]))
        described = [
            {"mediaType": kind, "size": len(blob), "digest": self._keep(blob)}
            for kind, blob in zip((_CONFIG, _LAYER), blobs, strict=True)
        ]
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": described[0],
                "layers": described[1:],
            }
        ).encode()
        digest = _digest(manifest)
        self._manifests[repository, tag] = self._manifests[repository, digest] = manifest
        return digest

    def forget(self, repository: str) -> None:
        """Lose all images of a repository."""
        self._manifests = {k: v for k, v in self._manifests.items() if k[0] != repository}

    async def start(self, port: int = 0) -> None:
        """Listen; on a port of one's own choice after a ``stop``."""
        app = web.Application(middlewares=[self._gate])
        app.router.add_get("/v2/", self._root)
        app.router.add_get("/v2/{repository:.+}/manifests/{reference}", self._manifest)
        app.router.add_get("/v2/{repository:.+}/blobs/{digest}", self._blob)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> int:
        """Stop listening; return the port."""
        self.open.set()
        if self._runner is not None:
            await self._runner.cleanup()
        return self._port

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _keep(self, blob: bytes) -> str:
        self._blobs[_digest(blob)] = blob
        return _digest(blob)

    @web.middleware
    async def _gate(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        self.authorizations.add(request.headers.get("Authorization", ""))
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            return web.Response(status=500)
        wanted = base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and request.headers.get("Authorization") != f"Basic {wanted}":
            return _error(401, "UNAUTHORIZED", "authentication required")
        return await handler(request)

    async def _root(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def _manifest(self, request: web.Request) -> web.Response:
        key = (request.match_info["repository"], request.match_info["reference"])
        manifest = self._manifests.get(key)
        if manifest is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return web.Response(
            body=manifest,
            content_type=_MANIFEST,
            headers={"Docker-Content-Digest": _digest(manifest)},
        )

    async def _blob(self, request: web.Request) -> web.Response:
        blob = self._blobs.get(request.match_info["digest"])
        if blob is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown")
        return web.Response(body=blob, content_type="application/octet-stream")


def _error(status: int, code: str, message: str) -> web.Response:
    headers = {"WWW-Authenticate": 'Basic realm="test"'} if status == 401 else None
    body = {"errors": [{"code": code, "message": message}]}
    return web.json_response(body, status=status, headers=headers)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _layer(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        entry = tarfile.TarInfo("content")
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
