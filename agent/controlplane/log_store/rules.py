"""What events may be taken, whichever way they come: sizes, times, names. Pure.

Source: CloudWatch Logs' API reference, PutLogEvents, CreateLogGroup and CreateLogStream.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from agent import escapes
from agent.controlplane.log_store.blocks import OVERHEAD_BYTES
from agent.controlplane.log_store.contract import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH_EVENTS: Final = 10_000
BATCH_BYTES: Final = 1_048_576
"""Of messages in UTF-8, and 26 for each event."""
SPAN_MS: Final = DAY_MS
OLDEST_MS: Final = 14 * DAY_MS
NEWEST_MS: Final = 2 * 3600 * 1000
NAME_MOST: Final = 512
GROUP_NAME: Final = re.compile(r"[.\-_/#A-Za-z0-9]+")
STREAM_NAME: Final = re.compile(rf"[^:*{escapes.CONTROLS}]+")


class BatchRefused(ValueError):
    """None of a batch is taken; the text says why."""


class Judged(NamedTuple):
    """Which events of a batch, by their places, are taken."""

    first: int
    end: int
    """Behind the last one."""
    too_old_end: int = 0
    """Behind the last one that is older than 14 days; 0 for none."""
    expired_end: int = 0
    """Behind the last one that is past the group's retention; 0 for none."""
    too_new_start: int | None = None
    """The first one that is more than two hours ahead."""


def judge(times: Sequence[int], messages: Sequence[str], now_ms: int, kept_since_ms: int) -> Judged:
    """Return what is taken of a batch.

    Args:
        times: of its events, in milliseconds.
        messages: one for each time.
        now_ms: the time.
        kept_since_ms: since when events of the group are kept.

    Raises:
        BatchRefused: it is empty or too large, not in order, or spans more than a day.
    """
    check_sizes(times, messages)
    if any(before > after for before, after in pairwise(times)):
        raise BatchRefused(
            "Log events in a single PutLogEvents request must be in chronological order."
        )
    too_old, end = within(times, now_ms)
    expired = _count_before(times, kept_since_ms)
    first = max(too_old, expired)
    if first < end and times[end - 1] - times[first] > SPAN_MS:
        raise BatchRefused(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
        )
    return Judged(first, end, too_old, expired, end if end < len(times) else None)


def check_sizes(times: Sequence[int], messages: Sequence[str]) -> None:
    """Return when a batch is no larger than one may be; raises ``BatchRefused``."""
    if not times:
        raise BatchRefused("a batch must hold at least one log event")
    if len(times) > BATCH_EVENTS:
        raise BatchRefused(f"a batch holds at most {BATCH_EVENTS} log events")
    if not all(messages):
        raise BatchRefused("a log event has an empty message")
    size_bytes = sum(len(message.encode()) + OVERHEAD_BYTES for message in messages)
    if size_bytes > BATCH_BYTES:
        raise BatchRefused(f"Upload too large: {size_bytes} bytes exceeds limit of {BATCH_BYTES}")


def within(times: Sequence[int], now_ms: int) -> tuple[int, int]:
    """Return the place of the first event that is not too old, and of the first one that is too new."""
    return _count_before(times, now_ms - OLDEST_MS), _count_before(times, now_ms + NEWEST_MS + 1)


def _count_before(times: Sequence[int], limit_ms: int) -> int:
    """Return how many times are before one."""
    return sum(time < limit_ms for time in times)
