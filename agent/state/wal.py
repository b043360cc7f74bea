"""Parses SQLite's write-ahead log without SQLite: its pages, and whether it is intact. Pure.

SQLite reads a log up to the first frame with a wrong checksum and ignores the rest without a word.
So one bad page silently undoes every later commit. Here each frame is checked against the checksum
of the frame before it, and the frames after a bad one are still read.

Source: "The SQLite Database File Format", section 4, https://sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_ORDERS: Final = {0x377F0682: "<", 0x377F0683: ">"}
"""The log's magic number, and the byte order of its checksums."""
_VERSION: Final = 3007000
_MASK: Final = 0xFFFFFFFF
_PAGE_SIZES: Final = frozenset(1 << power for power in range(9, 17))


class Log(NamedTuple):
    """The committed content of a log."""

    pages: dict[int, bytes]
    """The newest committed content of each page that can be read, by page number."""
    page_count: int
    """The number of pages in the database after the last commit; 0 if nothing was committed."""
    damage: str
    """Why SQLite would not read all of it; empty if the log is intact."""


class _Header(NamedTuple):
    order: str
    page_bytes: int
    salts: bytes
    """Identifies the frames of the current round; a new round overwrites older frames."""
    seed: tuple[int, int] | None
    """The initial value for the first frame's checksum; None if the header is damaged."""


def read(raw: bytes, *, file_bytes: int = 0, page_bytes: int = 4096) -> Log:
    """Return the committed content of a log.

    A damaged frame with no commit after it is not damage: it was never durable.

    Args:
        raw: the log; may be empty.
        file_bytes: size of the database file, which limits the valid page numbers.
        page_bytes: page size to use if the log's own header cannot be read.
    """
    header = _read_header(raw, page_bytes)
    pages: dict[int, bytes] = {}
    uncommitted: dict[int, bytes] = {}
    count, seed = 0, header.seed
    broken = "" if seed is not None else "the header of its log is damaged"
    damage = ""
    step = _FRAME.size + header.page_bytes
    most = (file_bytes + len(raw)) // header.page_bytes + 1
    for number, at in enumerate(range(_HEADER.size, len(raw) - step + 1, step), start=1):
        page, after, _, _, *stored = _FRAME.unpack_from(raw, at)
        content = raw[at + _FRAME.size : at + step]
        is_of_this_round = raw[at + 8 : at + 16] == header.salts
        if (
            is_of_this_round
            and 0 < page <= most
            and after <= most
            # The first frame after a damaged header cannot be checked, so it is accepted.
            and (
                seed is None or list(_sum(header.order, raw[at : at + 8] + content, seed)) == stored
            )
        ):
            uncommitted[page] = content
            if after:
                pages |= uncommitted
                uncommitted, count, damage = {}, after, broken
        else:
            broken = broken or f"frame {number} of its log is damaged"
        seed = (stored[0], stored[1])
    return Log(pages, count, damage)


def _read_header(raw: bytes, page_bytes: int) -> _Header:
    if len(raw) >= _HEADER.size:
        magic, version, size, _, _, _, *stored = _HEADER.unpack_from(raw)
        order = _ORDERS.get(magic, "")
        is_sound = bool(order) and version == _VERSION and size in _PAGE_SIZES
        if is_sound and list(_sum(order, raw[:24], (0, 0))) == stored:
            return _Header(order, size, raw[16:24], (stored[0], stored[1]))
    step = _FRAME.size + page_bytes
    salts = [raw[at + 8 : at + 16] for at in range(_HEADER.size, _HEADER.size + 3 * step, step)]
    # The same machine wrote the log, and agents run on little-endian machines.
    return _Header("<", page_bytes, max(salts, key=salts.count), None)


def _sum(order: str, data: bytes, seed: tuple[int, int]) -> tuple[int, int]:
    first, second = seed
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
