"""Reads SQLite's write-ahead log without SQLite: which pages it holds, and whether it is whole. Pure.

SQLite takes a log up to the first frame whose checksum is wrong and says nothing of the rest, so that
one bad page silently takes back everything that was committed after it. Here each frame is judged by
the checksum of the one before it, and what lies behind a bad one is still read.

Source: "The SQLite Database File Format", section 4, https://sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_ORDERS: Final = {0x377F0682: "<", 0x377F0683: ">"}
"""The log's first word, and the byte order of what its checksums count."""
_VERSION: Final = 3007000
_MASK: Final = 0xFFFFFFFF
_PAGE_SIZES: Final = frozenset(1 << power for power in range(9, 17))


class Log(NamedTuple):
    """What a log holds that was committed."""

    pages: dict[int, bytes]
    """The newest committed content by page number, as far as it can be read."""
    page_count: int
    """How many pages the database had after the last commit; 0 where nothing was committed."""
    damage: str
    """Why SQLite would not take all of it; empty for a log that is as it was written."""


class _Header(NamedTuple):
    order: str
    page_bytes: int
    salts: bytes
    """What all frames of this round bear; earlier rounds are written over from the beginning."""
    seed: tuple[int, int] | None
    """What the first frame's checksum begins with; None where the header is broken."""


def read(raw: bytes, *, file_bytes: int = 0, page_bytes: int = 4096) -> Log:
    """Return what the bytes of a log hold.

    A broken frame that no commit follows is no damage: nobody was ever promised that it would stay.

    Args:
        raw: the log; may be empty.
        file_bytes: size of the database file, for what numbers there can be.
        page_bytes: size of a page where the log's own header cannot be read.
    """
    header = _read_header(raw, page_bytes)
    pages: dict[int, bytes] = {}
    uncommitted: dict[int, bytes] = {}
    count, seed = 0, header.seed
    broken = "" if seed is not None else "the header of its log is broken"
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
            # The first frame behind a broken header cannot be judged, and is taken as it is.
            and (
                seed is None or list(_sum(header.order, raw[at : at + 8] + content, seed)) == stored
            )
        ):
            uncommitted[page] = content
            if after:
                pages |= uncommitted
                uncommitted, count, damage = {}, after, broken
        else:
            broken = broken or f"frame {number} of its log is broken"
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
    # Agents run on machines of this order, and a log is written by the machine that reads it.
    return _Header("<", page_bytes, max(salts, key=salts.count), None)


def _sum(order: str, data: bytes, seed: tuple[int, int]) -> tuple[int, int]:
    first, second = seed
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second
