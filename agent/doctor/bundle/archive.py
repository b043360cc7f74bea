"""Collects the pieces, removes secrets from each, and packs them into one file.

Pieces are collected four at a time, each with a deadline. A failure is noted in place of the piece
and in ``MANIFEST.json``. The file is created first, readable only by its owner. It never replaces
an existing file, and is removed if the archive cannot be completed.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import tarfile
import time
from typing import IO, TYPE_CHECKING, Any

import msgspec

from agent import __version__
from agent.doctor import reading
from agent.doctor.bundle.pieces import Piece, all_pieces
from agent.doctor.bundle.secrets import redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from agent.doctor.bundle.redact import Redactor
    from agent.doctor.findings import Report
    from agent.doctor.host import HostFacts

MAX_BYTES = 20 * 1024 * 1024
"""Limit for all pieces together, before compression."""
MAX_PIECE_BYTES = 2 * 1024 * 1024
_SIDE_BY_SIDE = 4


class Collected(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The result of one piece; a line of the manifest."""

    name: str
    bytes: int = 0
    cut_bytes: int = 0
    """Bytes cut from its beginning, because it or the archive was too large."""
    seconds: float = 0.0
    trouble: str = ""


def default_name() -> str:
    """Return the default name of an archive, with host name and time."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64] or "host"
    return f"ecs-agent-bundle-{host}-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"


async def write(
    host: HostFacts,
    report: Report,
    target: Path,
    *,
    progress: Callable[[int, int], None],
) -> int:
    """Write the archive and return its size in bytes.

    Args:
        host: the host to collect from.
        report: the results of the checks; the first piece.
        target: the file to create; it must not exist.
        progress: called with the number of finished pieces and the number of all pieces.

    Raises:
        OSError: the file cannot be created or written, or already exists.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = await reading.blocking(lambda: os.open(target, flags, 0o600))
    done = False
    try:
        cleaner = await redactor(host)
        found = await _collect(all_pieces(host, report), host, cleaner, progress)
        size = await reading.blocking(lambda: _pack(descriptor, target.name, found))
        done = True
        return size
    finally:
        os.close(descriptor)
        if not done:
            await reading.blocking(lambda: target.unlink(missing_ok=True))


async def _collect(
    pieces: Sequence[Piece],
    host: HostFacts,
    cleaner: Redactor,
    progress: Callable[[int, int], None],
) -> list[tuple[Collected, str]]:
    gate = asyncio.Semaphore(_SIDE_BY_SIDE)
    ready = 0

    async def one(piece: Piece) -> tuple[Collected, str]:
        nonlocal ready
        async with gate:
            result = await _piece(piece, host, cleaner)
        ready += 1
        progress(ready, len(pieces))
        return result

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(piece)) for piece in pieces]
    return [task.result() for task in tasks]


async def _piece(piece: Piece, host: HostFacts, cleaner: Redactor) -> tuple[Collected, str]:
    began = time.monotonic()
    trouble, text = "", ""
    try:
        async with asyncio.timeout(piece.limit_s):
            text = await piece.collect(host)
    except TimeoutError:
        trouble = f"not collected within {piece.limit_s:g} s"
    except Exception as error:  # noqa: BLE001 - one piece must not cost the others
        trouble = f"{type(error).__name__}: {error}"
    kept = text[-MAX_PIECE_BYTES:]
    # A line that lost its beginning may have lost the name by which a secret is recognized.
    if len(kept) < len(text):
        kept = kept.partition("\n")[2]
    clean_up = cleaner.clean_json if piece.name.endswith(".json") else cleaner.clean
    clean = await reading.blocking(lambda: clean_up(kept))
    about = Collected(
        name=piece.name,
        cut_bytes=len(text) - len(kept),
        seconds=round(time.monotonic() - began, 3),
        trouble=await reading.blocking(lambda: cleaner.clean(trouble)),
    )
    return about, clean or (f"[nothing: {about.trouble or 'empty'}]\n")


def _pack(descriptor: int, name: str, found: Sequence[tuple[Collected, str]]) -> int:
    """Write all pieces and the manifest; return the size of the file. Blocks."""
    folder = name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    left = MAX_BYTES
    manifest: list[Collected] = []
    with os.fdopen(os.dup(descriptor), "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive:
            for about, text in found:
                body = text.encode("utf-8", errors="replace")
                cut = max(0, len(body) - left)
                body = body[cut:]
                left -= len(body)
                _add(archive, f"{folder}/{about.name}", body)
                manifest.append(
                    msgspec.structs.replace(about, bytes=len(body), cut_bytes=about.cut_bytes + cut)
                )
            _add(archive, f"{folder}/MANIFEST.json", _manifest(manifest))
        return _size(file)


def _manifest(pieces: Sequence[Collected]) -> bytes:
    about: dict[str, Any] = {
        "format": 1,
        "version": __version__,
        "hostname": socket.gethostname(),
        "at": time.time(),
        "pieces": list(pieces),
    }
    return msgspec.json.format(msgspec.json.encode(about), indent=2)


def _add(archive: tarfile.TarFile, name: str, body: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(body), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(body))


def _size(file: IO[bytes]) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size
