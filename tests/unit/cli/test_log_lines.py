"""Times and lines of logs, as text."""

from __future__ import annotations

from datetime import datetime

import pytest

from agent.cli.log_lines import LogLine, lines, since_ns, stamp_of

NOW = 1_767_323_045.0
BASE = 1_767_323_045 * 10**9


@pytest.mark.parametrize(
    ("moment", "stamp"),
    [
        (b"2026-01-02T03:04:05Z", BASE),
        (b"2026-01-02T03:04:05.5Z", BASE + 500_000_000),
        (b"2026-01-02T03:04:05.000000007Z", BASE + 7),
        (b"2026-01-02T05:04:05.000000007+02:00", BASE + 7),
        (b"2026-13-02T03:04:05Z", None),
        (b"hello", None),
        (b"", None),
    ],
)
def test_times_of_the_engine(moment: bytes, stamp: int | None) -> None:
    assert stamp_of(moment) == stamp


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("10m", BASE - 600 * 10**9),
        ("1h30m", BASE - 5400 * 10**9),
        ("2d", BASE - 2 * 86400 * 10**9),
        ("1d12h", BASE - 129600 * 10**9),
        ("1767323045", BASE),
        ("1767323045.000000007", BASE + 7),
        ("2026-01-02T03:04:05Z", BASE),
        ("2026-01-02T05:04:05.25+02:00", BASE + 250_000_000),
    ],
)
def test_beginnings(text: str, stamp: int) -> None:
    assert since_ns(text, NOW) == stamp


def test_a_beginning_without_a_zone_is_local() -> None:
    local = datetime(2026, 1, 2, 14, 0).astimezone()
    assert since_ns("2026-01-02T14:00", NOW) == int(local.timestamp()) * 10**9


def test_lines_however_they_are_cut() -> None:
    raw = b"2026-01-02T03:04:05Z one\nno time\n2026-01-02T03:04:06Z rest"
    expected = [
        LogLine(BASE, "c", "2026-01-02T03:04:05Z", b"one"),
        LogLine(BASE, "c", "", b"no time"),
        LogLine(BASE + 10**9, "c", "2026-01-02T03:04:06Z", b"rest", is_whole=False),
    ]
    for size in range(1, len(raw) + 1):
        chunks = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert list(lines("c", chunks)) == expected
