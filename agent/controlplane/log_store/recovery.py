"""Opening the log store: the catalogue checked or made anew, journals replayed, leftovers removed. Blocking.

Damage costs what is damaged and no more, and is told in the log: a catalogue is put aside and made
anew from the segments, a segment whose footer is damaged is put aside then, a block that is damaged is
left out when it is read.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.controlplane.log_store import catalogue_file, disk, journal, segments
from agent.controlplane.log_store.catalogue import Catalogue
from agent.controlplane.log_store.contract import LogStoreFailure
from agent.controlplane.log_store.journal import Journal
from agent.controlplane.log_store.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.controlplane.log_store.contract import Run
    from agent.controlplane.log_store.segments import Footer

_log = structlog.get_logger(__name__)


class Opened(NamedTuple):
    """The store as it was found."""

    lock: disk.Lock
    catalogue: Catalogue
    """For the writer."""
    for_sealer: Catalogue
    recent: Recent
    journal: Journal | None
    """The one to go on with."""
    next_sequence: int


def open_directory(directory: Path) -> Opened:
    """Open the store in a directory, which is made when it is missing.

    Raises:
        LogStoreFailure: it cannot be used; the text says why.
    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        lock = disk.Lock(directory)
    except OSError as error:
        raise LogStoreFailure(f"{directory} cannot be used: {error}") from error
    try:
        return _open(directory, lock)
    except (OSError, sqlite3.Error) as error:
        lock.release()
        raise LogStoreFailure(f"the logs in {directory} cannot be opened: {error}") from error
    except BaseException:
        lock.release()
        raise


def _open(directory: Path, lock: disk.Lock) -> Opened:
    known, is_anew = _catalogue(directory)
    numbers = _journals(directory, known)
    _remove_leftovers(directory, known)
    runs = {number: _replayed(directory, known, number, adopt=is_anew) for number in numbers}
    newest = numbers[-1] if numbers else known.meta("segment") + 1
    recent = Recent(newest)
    if numbers[:-1]:
        # One, which was being made a segment; should there be more, they are made one together.
        recent.restore([run for number in numbers[:-1] for run in runs[number]], numbers[-2])
    recent.add(runs.get(newest, []))
    last = max(
        (run.first_sequence + run.count - 1 for some in runs.values() for run in some), default=0
    )
    return Opened(
        lock,
        known,
        Catalogue(catalogue_file.connect(directory / disk.CATALOGUE)),
        recent,
        Journal.reopen(directory, newest) if numbers else None,
        max(last, known.meta("sequence")) + 1,
    )


def _catalogue(directory: Path) -> tuple[Catalogue, bool]:
    """Return the catalogue, and whether it was made anew because the old one is lost."""
    path = directory / disk.CATALOGUE
    segment_files = disk.segment_files(directory)
    if path.exists():
        connection, fault = _checked(path)
        if connection is not None:
            known = Catalogue(connection)
            ahead = set(segment_files.values()) - set(disk.journal_numbers(directory))
            if max(ahead, default=0) <= known.meta("segment"):
                return known, False
            connection.close()
            fault = "it is older than the segments"
        _put_aside(path, fault)
    connection = catalogue_file.connect(path)
    catalogue_file.migrate(connection)
    if not segment_files and not disk.journal_numbers(directory):
        return Catalogue(connection), False
    catalogue_file.rebuild(connection, _footers(directory))
    _log.warning("log catalogue made anew from the segments", directory=str(directory))
    return Catalogue(connection), True


def _checked(path: Path) -> tuple[sqlite3.Connection | None, str]:
    """Return a connection to a catalogue that is whole, or what is wrong with it."""
    connection = None
    try:
        connection = catalogue_file.connect(path)
        ((found,), *_) = connection.execute("PRAGMA quick_check(1)").fetchall()
        fault = "" if found == "ok" else str(found)
        if not fault:
            catalogue_file.migrate(connection)
            return connection, ""
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        fault = str(error)
    if connection is not None:
        connection.close()
    return None, fault


def _footers(directory: Path) -> Iterator[tuple[Footer, str, int]]:
    """Yield the footer of each segment with its file and size; a damaged segment is put aside."""
    newest: dict[int, str] = {}
    for file, number in disk.segment_files(directory).items():
        path = directory / file
        try:
            segments.read_footer(path)
        except LogStoreFailure as error:
            _put_aside(path, str(error))
        else:
            newest[number] = file
    for file in newest.values():
        path = directory / file
        yield segments.read_footer(path), path.name, path.stat().st_size


def _put_aside(path: Path, fault: str) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    _log.critical(
        "log store is damaged; what is damaged is put aside",
        file=str(path),
        aside=str(aside),
        fault=fault,
    )


def _journals(directory: Path, known: Catalogue) -> list[int]:
    """Return the numbers of the journals that are not segments yet, and remove the others."""
    numbers = []
    for number in disk.journal_numbers(directory):
        if number <= known.meta("segment"):
            journal.path_of(directory, number).unlink(missing_ok=True)
        else:
            numbers.append(number)
    return numbers


def _remove_leftovers(directory: Path, known: Catalogue) -> None:
    """Remove files of segments that nothing leads to: a crash came before they were removed or used."""
    used = {file for _, file, *_ in known.segments()}
    for file in disk.segment_files(directory):
        if file not in used:
            (directory / file).unlink(missing_ok=True)
    for fresh in directory.glob("*.segment.new"):
        fresh.unlink(missing_ok=True)


def _replayed(directory: Path, known: Catalogue, number: int, *, adopt: bool) -> list[Run]:
    """Return the runs of a journal whose streams are there; ``adopt`` makes those that are not."""
    runs = journal.replay(journal.path_of(directory, number)).runs
    if adopt:
        known.connection.execute("BEGIN")
        for run in runs:
            known.adopt(run)
        known.connection.execute("COMMIT")
    there = {stream.id for stream in known.streams_by_id({run.stream_id for run in runs})}
    return [run for run in runs if run.stream_id in there]
