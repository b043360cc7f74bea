"""``cron(...)`` with the six fields of AWS: minutes, hours, day of month, month, day of week, year. Pure.

Libraries for cron expressions have other fields: five, or with seconds, Sunday as 0, no year and no ``W``.
The calendar is Python's. Source: the EventBridge Scheduler user guide, "Cron-based schedules".
"""

from __future__ import annotations

import calendar
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199
_ITEM: Final = re.compile(r"(\*|[0-9A-Z]{1,4})(?:-([0-9A-Z]{1,4}))?(?:/([0-9]{1,4}))?")
_NEAREST: Final = re.compile(r"([0-9]{1,2})W")
_LAST: Final = re.compile(r"([1-7]|[A-Z]{3})?L")
_NTH: Final = re.compile(r"([1-7]|[A-Z]{3})#([1-5])")
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS: Final = (
    "JAN",
    "FEB",
    "MAR",
    "APR",
    "MAY",
    "JUN",
    "JUL",
    "AUG",
    "SEP",
    "OCT",
    "NOV",
    "DEC",
)
_SATURDAY: Final = 7
_WEEK: Final = 7


class CronInvalid(ValueError):
    """The expression is not valid; the text says which field is wrong."""


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()


_MINUTE: Final = _Field("minutes", 0, 59)
_HOUR: Final = _Field("hours", 0, 23)
_DAY: Final = _Field("day-of-month", 1, 31)
_MONTH: Final = _Field("month", 1, 12, _MONTHS)
_WEEKDAY: Final = _Field("day-of-week", 1, 7, _DAYS)
_YEAR: Final = _Field("year", FIRST_YEAR, LAST_YEAR)


class Cron(Struct, frozen=True):
    """A parsed expression; days of the week are 1 for Sunday to 7 for Saturday."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    years: tuple[int, ...]
    days: tuple[int, ...] = ()
    """Of the month."""
    has_last_day: bool = False
    nearest: tuple[int, ...] = ()
    """Days of the month; meant is the nearest day from Monday to Friday in the same month."""
    weekdays: tuple[int, ...] = ()
    last_weekdays: tuple[int, ...] = ()
    nth_weekdays: tuple[tuple[int, int], ...] = ()
    """Day of the week, and which one of the month."""

    def times_from(self, start: datetime) -> Iterator[datetime]:
        """Yield the matching minutes that are not before ``start``, in order, in local time."""
        for year in self.years:
            if year < start.year:
                continue
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in self._days_of(year, month):
                    if (year, month, day) >= (start.year, start.month, start.day):
                        yield from self._times_of(datetime(year, month, day), start)  # noqa: DTZ001 - local

    def _times_of(self, day: datetime, start: datetime) -> Iterator[datetime]:
        is_first = day.date() == start.date()
        for hour in self.hours:
            if is_first and hour < start.hour:
                continue
            for minute in self.minutes:
                at = day.replace(hour=hour, minute=minute)
                if at >= start:
                    yield at

    def _days_of(self, year: int, month: int) -> list[int]:
        first, length = calendar.monthrange(year, month)
        # Of calendar, Monday is 0; here Sunday is 1.
        first = (first + 1) % _WEEK + 1
        found = {day for day in self.days if day <= length}
        if self.has_last_day:
            found.add(length)
        found |= {_nearest(day, first, length) for day in self.nearest if day <= length}
        for weekday in self.weekdays:
            found.update(range(1 + (weekday - first) % _WEEK, length + 1, _WEEK))
        for weekday in self.last_weekdays:
            found.add(max(range(1 + (weekday - first) % _WEEK, length + 1, _WEEK)))
        for weekday, number in self.nth_weekdays:
            day = 1 + (weekday - first) % _WEEK + _WEEK * (number - 1)
            if day <= length:
                found.add(day)
        return sorted(found)


def parse(text: str) -> Cron:
    """Return the expression between the parentheses of ``cron(...)``; raises ``CronInvalid``."""
    fields = text.upper().split()
    if len(fields) != 6:
        raise CronInvalid(
            "it must have six fields: minutes hours day-of-month month day-of-week year"
        )
    minutes, hours, day, month, weekday, year = fields
    if (day == "?") == (weekday == "?"):
        raise CronInvalid("exactly one of day-of-month and day-of-week must be ?")
    days: list[int] = []
    nearest: list[int] = []
    weekdays: list[int] = []
    last: list[int] = []
    nth: list[tuple[int, int]] = []
    has_last_day = False
    for item in day.split(",") if day != "?" else ():
        if item == "L":
            has_last_day = True
        elif (found := _NEAREST.fullmatch(item)) is not None:
            nearest.append(_number(_DAY, found[1]))
        else:
            days += _items(_DAY, item)
    for item in weekday.split(",") if weekday != "?" else ():
        if (found := _LAST.fullmatch(item)) is not None:
            # Alone, L is the last day of the week.
            (last if found[1] else weekdays).append(
                _number(_WEEKDAY, found[1]) if found[1] else _SATURDAY
            )
        elif (found := _NTH.fullmatch(item)) is not None:
            nth.append((_number(_WEEKDAY, found[1]), int(found[2])))
        else:
            weekdays += _items(_WEEKDAY, item)
    return Cron(
        minutes=_set(_MINUTE, minutes),
        hours=_set(_HOUR, hours),
        months=_set(_MONTH, month),
        years=_set(_YEAR, year),
        days=tuple(sorted(set(days))),
        has_last_day=has_last_day,
        nearest=tuple(nearest),
        weekdays=tuple(sorted(set(weekdays))),
        last_weekdays=tuple(last),
        nth_weekdays=tuple(nth),
    )


def _set(field: _Field, text: str) -> tuple[int, ...]:
    return tuple(sorted({value for item in text.split(",") for value in _items(field, item)}))


def _items(field: _Field, text: str) -> range:
    """Return the values of one item of a field: ``*``, ``5``, ``1-5``, ``0/15``, ``10-40/10``."""
    found = _ITEM.fullmatch(text)
    if found is None or (found[1] == "*" and found[2] is not None):
        raise CronInvalid(f"{field.name} cannot be {text[:32]}")
    step = int(found[3]) if found[3] is not None else 1
    if step < 1:
        raise CronInvalid(f"{field.name} cannot go in steps of 0")
    if found[1] == "*":
        return range(field.least, field.most + 1, step)
    first = _number(field, found[1])
    if found[2] is not None:
        last = _number(field, found[2])
        if last < first:
            raise CronInvalid(f"{field.name} cannot go from {found[1]} back to {found[2]}")
    else:
        last = field.most if found[3] is not None else first
    return range(first, last + 1, step)


def _number(field: _Field, text: str) -> int:
    value = (
        field.names.index(text) + 1 if text in field.names else int(text) if text.isdigit() else -1
    )
    if not field.least <= value <= field.most:
        raise CronInvalid(f"{field.name} must be from {field.least} to {field.most}, not {text}")
    return value


def _nearest(day: int, first: int, length: int) -> int:
    """Return the day from Monday to Friday nearest to one, in the month that begins on ``first``."""
    weekday = (first - 1 + day - 1) % _WEEK + 1
    if weekday == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == 1:
        return day + 1 if day < length else day - 2
    return day
