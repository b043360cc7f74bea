"""When expressions are due: against a reading of the calendar minute by minute, and in time zones."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.controlplane.schedules import expressions
from agent.controlplane.schedules.expressions import ExpressionInvalid, next_after, parse

DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def at(text: str, where: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(where)).timestamp()


def times(text: str, after: str, count: int, where: str = "UTC") -> list[str]:
    """The next times of an expression, in local time with the offset."""
    found, now, zone = [], at(after, where), expressions.zone(where)
    for _ in range(count):
        due = next_after(parse(text), now, zone, base=now)
        if due is None:
            break
        found.append(datetime.fromtimestamp(due, zone).isoformat(timespec="minutes"))
        now = due
    return found


# One item of a field, as a reference reads it: the text, and whether a value matches.


def numbers(least: int, most: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    value = st.integers(least, most)

    def named(number: int, by_name: bool) -> str:
        return names[number - least] if by_name and names else str(number)

    single = st.builds(named, value, st.booleans())
    span = st.tuples(value, value).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(1, most)
    return st.one_of(
        st.just("*"),
        single,
        span,
        st.builds(lambda first, by: f"{first}/{by}", value, step),
        st.builds(lambda by: f"*/{by}", step),
        st.builds(lambda pair, by: f"{pair}/{by}", span, step),
    )


def lists(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, min_size=1, max_size=3).map(",".join)


def matches(item: str, value: int, most: int, names: tuple[str, ...] = ()) -> bool:
    for number, name in enumerate(names, 1):
        item = item.replace(name, str(number))
    body, _, step = item.partition("/")
    first, _, last = body.partition("-")
    if body == "*":
        low, high = (1 if names or most == 31 else 0), most
        if most == 2199:
            low = 1970
    else:
        low = int(first)
        high = int(last) if last else (most if step else low)
    return low <= value <= high and (value - low) % int(step or 1) == 0


def day_matches(day: str, weekday: str, on: datetime) -> bool:
    if day != "?":
        return any(is_day(item, on) for item in day.split(","))
    return any(is_weekday(item, on) for item in weekday.split(","))


def is_day(item: str, on: datetime) -> bool:
    length = calendar.monthrange(on.year, on.month)[1]
    if item == "L":
        return on.day == length
    if not item.endswith("W"):
        return matches(item, on.day, 31)
    wanted = int(item[:-1])
    working = [n for n in range(1, length + 1) if on.replace(day=n).weekday() < 5]
    return wanted <= length and on.day == min(working, key=lambda n: abs(n - wanted))


def is_weekday(item: str, on: datetime) -> bool:
    length = calendar.monthrange(on.year, on.month)[1]
    today = (on.weekday() + 1) % 7 + 1
    if item == "L":
        return today == 7
    if item.endswith("L"):
        return today == int(item[:-1]) and on.day + 7 > length
    if "#" in item:
        wanted, nth = item.split("#")
        return today == int(wanted) and (on.day - 1) // 7 + 1 == int(nth)
    return matches(item, today, 7, DAYS)


DAY_FIELDS = st.one_of(
    st.tuples(
        lists(st.one_of(numbers(1, 31), st.just("L"), st.integers(1, 31).map(lambda n: f"{n}W"))),
        st.just("?"),
    ),
    st.tuples(
        st.just("?"),
        lists(
            st.one_of(
                numbers(1, 7, DAYS),
                st.just("L"),
                st.integers(1, 7).map(lambda n: f"{n}L"),
                st.tuples(st.integers(1, 7), st.integers(1, 5)).map(lambda p: f"{p[0]}#{p[1]}"),
            )
        ),
    ),
)


@settings(max_examples=300)
@given(
    minute=lists(numbers(0, 59)),
    hour=lists(numbers(0, 23)),
    days=DAY_FIELDS,
    month=lists(numbers(1, 12, MONTHS)),
    year=st.one_of(st.just("*"), st.integers(2023, 2029).map(str), st.just("2024-2026")),
    start=st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)),  # noqa: DTZ001 - drawn without zones
)
def test_cron_against_the_calendar(
    minute: str, hour: str, days: tuple[str, str], month: str, year: str, start: datetime
) -> None:
    """The days of two months that match, and in the first of them the minutes."""
    start = start.replace(tzinfo=UTC)
    text = f"cron({minute} {hour} {days[0]} {month} {days[1]} {year})"
    due = next_after(parse(text), start.timestamp(), ZoneInfo("UTC"), base=0)
    on = start.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(62):
        is_day = (
            any(matches(item, on.month, 12, MONTHS) for item in month.split(","))
            and any(matches(item, on.year, 2199) for item in year.split(","))
            and day_matches(*days, on)
        )
        for number in range(24 * 60) if is_day else ():
            moment = on + timedelta(minutes=number)
            if (
                moment > start
                and any(matches(item, moment.minute, 59) for item in minute.split(","))
                and any(matches(item, moment.hour, 23) for item in hour.split(","))
            ):
                assert due == moment.timestamp(), text
                return
        on += timedelta(days=1)
    assert due is None or due >= on.timestamp(), text


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("cron(15 10 ? * 6L 2022-2023)", "2022-12-20", ["2022-12-30", "2023-01-27"]),
        ("cron(0 18 ? * MON-FRI *)", "2026-01-02T19:00", ["2026-01-05"]),
        ("cron(0 8 1W * ? *)", "2026-08-01T00:00", ["2026-08-03", "2026-09-01"]),
        ("cron(0 0 29 2 ? *)", "2025-01-01", ["2028-02-29", "2032-02-29"]),
        ("cron(0 10 ? * 3#2 *)", "2026-01-01", ["2026-01-13", "2026-02-10"]),
        ("cron(0 0 30 2 ? *)", "2025-01-01", []),
        ("cron(0 0 1 1 ? 2020)", "2025-01-01", []),
        ("at(2026-03-01T00:00:00)", "2026-02-28", ["2026-03-01"]),
    ],
)
def test_examples_of_the_guide_and_corners(text: str, after: str, expected: list[str]) -> None:
    found = [one.partition("T")[0] for one in times(text, after, max(1, len(expected)))]
    assert found == expected


def test_an_hour_that_is_skipped_and_one_that_comes_twice() -> None:
    # Berlin: 02:00 to 03:00 on 29 March 2026 does not exist, on 25 October it comes twice.
    assert times("cron(30 2 * * ? *)", "2026-03-28T00:00", 3, "Europe/Berlin") == [
        "2026-03-28T02:30+01:00",
        "2026-03-30T02:30+02:00",
        "2026-03-31T02:30+02:00",
    ]
    assert times("cron(30 2 * * ? *)", "2026-10-24T03:00", 2, "Europe/Berlin") == [
        "2026-10-25T02:30+02:00",
        "2026-10-26T02:30+01:00",
    ]
    assert times("cron(0/30 * * * ? *)", "2026-10-25T01:45", 4, "Europe/Berlin") == [
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:30+02:00",
        "2026-10-25T03:00+01:00",
        "2026-10-25T03:30+01:00",
    ]
    # A rate is a time that passes, whatever the clocks show.
    assert times("rate(12 hours)", "2026-10-24T20:00", 2, "Europe/Berlin") == [
        "2026-10-25T07:00+01:00",
        "2026-10-25T19:00+01:00",
    ]
    # What happens once is not lost with its hour.
    assert times("at(2026-03-29T02:30:00)", "2026-03-28T00:00", 1, "Europe/Berlin") == [
        "2026-03-29T03:30+02:00"
    ]


@settings(max_examples=100)
@given(
    after=st.integers(1_700_000_000, 1_900_000_000),
    where=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_times_only_go_forward_and_never_skip_an_hour_that_exists(after: int, where: str) -> None:
    zone = expressions.zone(where)
    due = next_after(parse("cron(0 * * * ? *)"), after, zone, base=0)
    assert due is not None
    assert 0 < due - after <= 3 * 3600
    assert datetime.fromtimestamp(due, zone).minute == 0


def test_a_rate_counts_from_its_base() -> None:
    utc = ZoneInfo("UTC")
    rate = parse("rate(5 minutes)")
    assert next_after(rate, 1000.0, utc, base=1000.0) == 1300.0
    assert next_after(rate, 999.0, utc, base=1000.0) == 1000.0
    assert next_after(rate, 1600.0, utc, base=1000.0) == 1900.0
    assert next_after(parse("rate(999999999 days)"), 0.0, utc, base=1.0e9) == 1.0e9
    assert next_after(parse("rate(999999999 days)"), 1.0e9, utc, base=1.0e9) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "rate(0 minutes)", "rate(5 seconds)", "rate(-1 hours)", "rate(5minutes)", "at(2026-01-01)",
        "at(2026-02-30T00:00:00)", "cron(* * * * * *)", "cron(0 0 ? * ? *)", "cron(0 0 * * ?)",
        "cron(60 0 * * ? *)", "cron(0 24 * * ? *)", "cron(0 0 32 * ? *)", "cron(0 0 0 * ? *)",
        "cron(0 0 ? * 8 *)", "cron(0 0 ? * MON#6 *)", "cron(0 0 * 13 ? *)", "cron(0 0 * * ? 1969)",
        "cron(0/0 0 * * ? *)", "cron(30-10 0 * * ? *)", "cron(0 0 LW * ? *)", "cron(, 0 * * ? *)",
        "cron(0 0 40W * ? *)", "cron(0 0 ? * FOO *)", "cron(*-3 0 * * ? *)", "cron(\u0661 0 * * ? *)",
    ],
)  # fmt: skip
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(ExpressionInvalid):
        parse(text)


def test_rules_are_stricter_and_zones_must_exist() -> None:
    for text in ("rate(1 minutes)", "rate(5 minute)", "at(2026-01-01T00:00:00)"):
        parse(text)
        with pytest.raises(ExpressionInvalid):
            parse(text, is_rule=True)
    parse("rate(1 minute)", is_rule=True)
    for name in ("Europe/Nowhere", "", "../etc/passwd", "/etc/passwd", "\0"):
        with pytest.raises(ExpressionInvalid, match="not a time zone"):
            expressions.zone(name)


@given(st.text(max_size=40))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    for whole in (text, f"cron({text})", f"rate({text})", f"at({text})"):
        try:
            parse(whole)
        except ExpressionInvalid:
            continue
