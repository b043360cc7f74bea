"""Expressions of schedules: ``rate(...)``, ``cron(...)``, ``at(...)``, and when they are due. Pure.

Times are Unix seconds. In a time zone, an hour that is skipped has no runs, and of one that comes twice
the first has them. Source: the EventBridge Scheduler user guide, "Schedule types".
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from agent.controlplane.schedules import cron
from agent.controlplane.schedules.cron import Cron

if TYPE_CHECKING:
    from collections.abc import Iterator

_RATE: Final = re.compile(r"rate\(\s*([1-9][0-9]{0,8})\s+(minute|hour|day)(s?)\s*\)")
_AT: Final = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
_CRON: Final = re.compile(r"cron\((.{1,250})\)")
_UNIT_S: Final = {"minute": 60, "hour": 3600, "day": 86400}
_END: Final = datetime(cron.LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp()


class ExpressionInvalid(ValueError):
    """The text is not an expression, or the name is not a time zone."""


class Rate(Struct, frozen=True):
    """Due again and again, always after the same time."""

    every_s: int


class At(Struct, frozen=True):
    """Due once, at a local time."""

    at: datetime


Expression = Rate | Cron | At


def parse(text: str, *, is_rule: bool = False) -> Expression:
    """Return an expression.

    Args:
        text: as the API takes it.
        is_rule: whether it is of a rule, which has no ``at`` and demands the right plural.

    Raises:
        ExpressionInvalid: the text says what is wrong.
    """
    if (found := _RATE.fullmatch(text)) is not None:
        if is_rule and (int(found[1]) == 1) == bool(found[3]):
            raise ExpressionInvalid("the unit of a rate is singular with 1, and plural with others")
        return Rate(int(found[1]) * _UNIT_S[found[2]])
    if not is_rule and (found := _AT.fullmatch(text)) is not None:
        try:
            return At(datetime.fromisoformat(found[1]))
        except ValueError as error:
            raise ExpressionInvalid(f"the time of at(): {error}") from None
    if (found := _CRON.fullmatch(text)) is not None:
        try:
            return cron.parse(found[1])
        except cron.CronInvalid as error:
            raise ExpressionInvalid(str(error)) from None
    kinds = (
        "rate(...) or cron(...)" if is_rule else "rate(...), cron(...) or at(yyyy-mm-ddThh:mm:ss)"
    )
    raise ExpressionInvalid(f"it must be {kinds}")


@functools.cache
def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name; raises ``ExpressionInvalid``.

    Reads a file for a name that was not asked for before: call it once in a thread. Only zones that exist
    are remembered.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ExpressionInvalid(
            f"{name[:64]!r} is not a time zone that this host knows; its zones are in the package tzdata"
        ) from None


def next_after(
    expression: Expression, after: float, where: ZoneInfo, *, base: float
) -> float | None:
    """Return when an expression is due next.

    Args:
        expression: when.
        after: the time must be later.
        where: the time zone of ``cron`` and ``at``.
        base: from where a rate counts; it is due at ``base`` plus any number of times its value.

    Returns:
        None if it is never due again.
    """
    match expression:
        case Rate():
            count = max(0, (after - base) // expression.every_s + 1)
            due = base + count * expression.every_s
            return due if due < _END else None
        case At():
            # A time that the clocks skip is due as much later as they are put forward.
            due = expression.at.replace(tzinfo=where).timestamp()
            return due if due > after else None
        case _:
            return next(_later(expression, after, where), None)


def _later(expression: Cron, after: float, where: ZoneInfo) -> Iterator[float]:
    start = datetime.fromtimestamp(max(after, 0.0), where).replace(
        tzinfo=None, second=0, microsecond=0
    )
    for local in expression.times_from(start - timedelta(minutes=1)):
        aware = local.replace(tzinfo=where)
        due = aware.timestamp()
        is_skipped = datetime.fromtimestamp(due, where).replace(tzinfo=None) != local
        if not is_skipped and due > after:
            yield due
