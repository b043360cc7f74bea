"""Rows are read round whatever is broken."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from agent.state import migration, salvage, wal

PAGE = 4096
NO_LOG = wal.read(b"")


def filled(count: int) -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migration.migrate(db)
        for number in range(count):
            row = ("task", f"t{number}", b"x" * 700, 1.0)
            db.execute("INSERT INTO records VALUES (?, ?, ?, ?)", row)
        db.execute("INSERT INTO meta VALUES ('instanceArn', 'arn:1')")
        return db.serialize()


def leaves(image: bytes, kind: int = 0x0D) -> list[int]:
    """Numbers of the pages that hold rows, counted from 0."""
    return [n for n in range(1, len(image) // PAGE) if image[n * PAGE] == kind and n > 8]


def keys(found: salvage.Salvaged) -> set[bytes]:
    return {row[1] for row in found.tables["records"] if isinstance(row[1], bytes)}


@pytest.mark.parametrize("share", [1, 3, 10])
def test_many_bad_leaves_cost_their_own_rows(share: int) -> None:
    image = bytearray(filled(1000))
    bad = leaves(bytes(image))[5:-5:share]
    for page in bad:
        image[page * PAGE : (page + 1) * PAGE] = b"\xa5" * PAGE
    found = salvage.read(bytes(image), NO_LOG)
    assert found.lost == ["records"]
    lost = 1000 - len(keys(found))
    # Where every second page is bad, some good ones between them are stepped over.
    assert lost <= len(bad) * 5 * (1 if share > 1 else 1.2)
    assert found.tables["meta"] == [(b"instanceArn", b"arn:1")]


def test_without_a_first_page_nothing_is_lost() -> None:
    image = bytes(PAGE) + filled(300)[PAGE:]
    found = salvage.read(image, NO_LOG)
    assert len(keys(found)) == 300
    assert (found.version, found.lost) == (1, [])


def test_a_circle_of_pages_ends() -> None:
    """Each child of a page that holds no rows is made its first: the walk would not come to an end."""
    image = bytearray(filled(1000))
    for page in leaves(bytes(image), kind=0x05):
        cells = int.from_bytes(image[page * PAGE + 3 : page * PAGE + 5], "big")
        first = int.from_bytes(image[page * PAGE + 12 : page * PAGE + 14], "big")
        child = image[page * PAGE + first : page * PAGE + first + 4]
        for cell in range(cells):
            at = page * PAGE + 12 + 2 * cell
            pointer = page * PAGE + int.from_bytes(image[at : at + 2], "big")
            image[pointer : pointer + 4] = child
    found = salvage.read(bytes(image), NO_LOG)
    assert len(keys(found)) <= 1000


@pytest.mark.parametrize("raw", [b"", b"x", b"\0" * 5000, b"SQLite format 3\0" * 1000])
def test_takes_anything(raw: bytes) -> None:
    found = salvage.read(raw, NO_LOG)
    assert not any(found.tables.values())
