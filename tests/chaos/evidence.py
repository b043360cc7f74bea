"""What a run that was not clean prints, so that its cause is found where nothing but the output is kept.

For each thing that went wrong: what the time line and the logs tell about it, and which faults struck meanwhile.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.chaos.report import Report

_MOST_SUBJECTS = 5
_MOST_LINES = 30
"""Of one file about one subject."""
_TAIL_LINES = 40
_WIDTH = 400
_AROUND_S = 3.0
_ID = re.compile(r"[0-9a-f]{12,}")
_FAULT_EVENTS = frozenset({"fault", "struck", "mended", "trouble", "exit"})


def gather(directory: Path, report: Report) -> list[str]:
    """Return lines about what went wrong in a run, from its history and its logs."""
    history = _events(directory / "history.jsonl")
    lines: list[str] = []
    subjects = list(dict.fromkeys(each.task for each in report.violations))
    for subject in subjects[:_MOST_SUBJECTS]:
        lines += ["", f"about {subject}:", *_about(directory, history, subject)]
    things = [thing for found in report.leftovers.values() for thing in found]
    for thing in things[:_MOST_SUBJECTS]:
        for name in _ID.findall(thing)[-1:]:
            lines += ["", f"about {thing}:", *_in_logs(directory, {name})]
    if report.trouble:
        for file in _logs(directory):
            if any(told.startswith(f"{file.stem} ") for told in report.trouble):
                lines += ["", *tail(file)]
    return [line[:_WIDTH] for line in lines]


def tail(file: Path) -> list[str]:
    """Return the end of a log."""
    lines = file.read_text(errors="replace").splitlines()
    return [f"the end of {file.name}:", *lines[-_TAIL_LINES:]]


def _about(directory: Path, history: list[dict[str, Any]], subject: str) -> Iterator[str]:
    """Yield what is known of an order, a task or a service."""
    names = {subject.rpartition("/")[2]}
    for event in history:
        if event.get("order") == subject and "task" in event:
            names.add(event["task"].rpartition("/")[2])
    told = [event for event in history if names & set(_words(event))]
    yield from map(_line, told[:_MOST_LINES])
    if told:
        begin, end = told[0]["s"] - _AROUND_S, told[-1]["s"] + _AROUND_S
        faults = [e for e in history if e["event"] in _FAULT_EVENTS and begin <= e["s"] <= end]
        yield "faults meanwhile:"
        yield from map(_line, faults[-_MOST_LINES:])
    yield from _in_logs(directory, {name for name in names if _ID.search(name)})


def _in_logs(directory: Path, names: set[str]) -> Iterator[str]:
    for file in _logs(directory):
        with file.open(errors="replace") as lines:
            found = [line.rstrip("\n") for line in lines if any(name in line for name in names)]
        if found:
            yield f"{file.name}:"
            yield from _ends(found)


def _ends(lines: list[str]) -> list[str]:
    """Leave out what is in the middle of too many lines."""
    if len(lines) <= _MOST_LINES:
        return lines
    half = _MOST_LINES // 2
    return [*lines[:half], f"({len(lines) - 2 * half} lines)", *lines[-half:]]


def _logs(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.log"))


def _events(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _words(event: dict[str, Any]) -> Iterable[str]:
    for value in event.values():
        if isinstance(value, str):
            yield value.rpartition("/")[2]


def _line(event: dict[str, Any]) -> str:
    details = ", ".join(f"{k} {v}" for k, v in event.items() if k not in ("s", "at", "event"))
    return f"{event['s']:9.3f} {event['event']}: {details}"
