"""The log as we read it, against the log as SQLite writes it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from agent.state import wal

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
STEP = PAGE + 24


def written(path: Path, *, rounds: int = 1, commits: int = 6) -> tuple[bytes, bytes, bytes]:
    """Return file and log as a crash leaves them, and the file with the log folded in."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
        for number in range(rounds):
            if number:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            for _ in range(commits if number < rounds - 1 else max(1, commits // 2)):
                db.execute("INSERT INTO t (b) VALUES (randomblob(3000))")
        raw, log = path.read_bytes(), path.with_name(f"{path.name}-wal").read_bytes()
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{path}.copy{suffix}")
    with contextlib.closing(sqlite3.connect(f"{path}.copy")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return raw, log, path.with_name(f"{path.name}.copy").read_bytes()


def laid_over(raw: bytes, log: wal.Log) -> bytes:
    image = bytearray(raw.ljust(log.page_count * PAGE, b"\0"))
    for number, content in log.pages.items():
        image[(number - 1) * PAGE : number * PAGE] = content
    return bytes(image)


def test_gives_what_sqlite_makes_of_it(tmp_path: Path) -> None:
    for rounds in (1, 2, 3):
        raw, log, folded = written(tmp_path / f"{rounds}.db", rounds=rounds)
        read = wal.read(log, file_bytes=len(raw))
        assert read.damage == ""
        assert laid_over(raw, read) == folded


def test_of_nothing_is_nothing() -> None:
    for raw in (b"", b"\0" * 10, b"\0" * 100_000, b"x" * 31):
        assert wal.read(raw) == wal.Log({}, 0, "")


def test_goes_on_behind_what_is_broken(tmp_path: Path) -> None:
    _, log, _ = written(tmp_path / "a.db", commits=20)
    whole = wal.read(log)
    frames = (len(log) - 32) // STEP
    for frame in range(frames - 3):
        for at in (0, 8, 16, 24, 2000):  # number, salts, checksum, content
            torn = bytearray(log)
            torn[32 + frame * STEP + at : 32 + frame * STEP + at + 8] = b"\xa5" * 8
            read = wal.read(bytes(torn), file_bytes=PAGE)
            assert read.damage, (frame, at)
            assert read.page_count == whole.page_count
            assert len(read.pages) >= len(whole.pages) - 2


def test_a_broken_header_costs_no_page(tmp_path: Path) -> None:
    _, log, _ = written(tmp_path / "a.db")
    for at in (0, 4, 8, 16, 24):
        torn = bytearray(log)
        torn[at : at + 4] = b"\xa5" * 4
        read = wal.read(bytes(torn), file_bytes=PAGE)
        assert read.damage == "the header of its log is damaged"
        assert read.pages == wal.read(log).pages


def test_what_was_not_committed_is_not_read(tmp_path: Path) -> None:
    _, log, _ = written(tmp_path / "a.db")
    torn = bytearray(log)
    torn[-100:] = b"\xa5" * 100
    read = wal.read(bytes(torn))
    assert read.damage == ""
    assert read.page_count <= wal.read(log).page_count
    assert read == wal.read(log[: -STEP // 2])


@given(raw=st.binary(max_size=300), at=st.integers(0, 9000), times=st.integers(1, 40))
def test_takes_anything(raw: bytes, at: int, times: int) -> None:
    data = bytearray(b"\x37\x7f\x06\x82" + bytes(9000))
    data[at : at + len(raw)] = raw
    read = wal.read(bytes(data) * times)
    assert len(read.pages) <= len(data) * times // STEP + 1
