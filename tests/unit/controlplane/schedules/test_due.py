"""What is due, with a simulated clock: each time runs once, late, or is dropped with a reason."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.schedules import due
from agent.controlplane.schedules.record import RunRecord, ScheduleRecord, TargetRecord

T0 = datetime(2026, 1, 5, 12, 0, 30, tzinfo=ZoneInfo("UTC")).timestamp()
DAY = 86_400.0


def record(expression: str = "rate(1 hour)", *, count: int = 1, **more: Any) -> ScheduleRecord:
    target = TargetRecord(id="", shown={}, request={"count": count})
    values: dict[str, Any] = {
        "name": "web",
        "arn": "arn",
        "group": "default",
        "expression": expression,
        "targets": [target],
    }
    return due.begun(ScheduleRecord(**(values | more)), T0)


def ran(seen: due.Look, now: float, started: int | None = None) -> ScheduleRecord:
    """The record after all that is ready was tried."""
    changed = seen.record
    for target in seen.ready:
        left = changed.runs[target].left
        changed = due.tried(changed, target, started=left if started is None else started, now=now)
    return changed


def test_a_rate_begins_one_interval_later_or_at_its_start() -> None:
    assert record().next_due == T0 + 3600
    assert record(start=T0 + 60).next_due == T0 + 60
    assert record(start=T0 - 60).next_due == T0 - 60 + 3600
    assert record("cron(0 13 * * ? *)", start=T0 + 3570).next_due == T0 + 3570
    assert record("cron(0 13 * * ? *)", start=T0 + 3571).next_due == T0 + 3570 + DAY
    assert record(state="DISABLED").next_due == 0


def test_nothing_is_due_early_and_each_time_runs_once() -> None:
    made = record()
    early = due.look(made, T0 + 3599.9)
    assert (early.record, early.ready, early.wake_at) == (made, (), T0 + 3600)
    seen = due.look(made, T0 + 3600)
    assert seen.ready == ("",)
    done = ran(seen, T0 + 3600)
    again = due.look(done, T0 + 3600.5)
    assert (again.record, again.ready, again.wake_at) == (done, (), T0 + 7200)
    assert done.last_due == T0 + 3600


def test_of_missed_times_the_newest_runs_if_it_is_not_too_old() -> None:
    now = T0 + 10 * 3600 + 5
    seen = due.look(record(), now)
    assert seen.record.runs[""].due == T0 + 10 * 3600
    assert (seen.ready, seen.dropped) == (("",), ())
    assert seen.record.next_due == T0 + 11 * 3600
    weekly = record("cron(0 13 ? * MON *)")
    late = due.look(weekly, weekly.next_due + 2 * DAY)
    assert (late.ready, [one.why for one in late.dropped]) == ((), ["it is older than 86400 s"])
    assert late.record.next_due == weekly.next_due + 7 * DAY
    # A year of missed minutes costs no more than a day of them.
    minutely = due.look(record("cron(* * * * ? *)"), T0 + 400 * DAY)
    assert minutely.record.runs[""].due == T0 + 400 * DAY - 30


def test_an_end_and_a_schedule_that_deletes_itself() -> None:
    made = record(end=T0 + 3600, deletes_itself=True)
    seen = due.look(made, T0 + 3600)
    assert (seen.ready, seen.record.next_due, seen.is_over) == (("",), 0.0, False)
    assert due.look(ran(seen, T0 + 3600), T0 + 3601).is_over
    assert not due.look(replace(ran(seen, T0 + 3600), deletes_itself=False), T0 + 3601).is_over
    # A run that is retried is not over.
    failed = due.look(ran(seen, T0 + 3600, started=0), T0 + 3601)
    assert (failed.is_over, failed.wake_at) == (False, T0 + 3605)
    assert record("at(2026-01-05T12:00:00)").next_due == 0
    assert not due.look(record(state="DISABLED", deletes_itself=True), T0).is_over


def test_a_run_is_tried_again_for_what_is_left_until_it_is_given_up() -> None:
    made = record(count=3)
    made = replace(made, targets=[replace(made.targets[0], retries=2)])
    now = T0 + 3600
    changed = ran(due.look(made, now), now, started=1)
    assert changed.runs[""] == RunRecord(
        due=now, begins_at=now, try_at=now + due.FIRST_RETRY_S, left=2, tries=1
    )
    changed = ran(due.look(changed, now + 5), now + 5, started=0)
    assert changed.runs[""].try_at == now + 15
    changed = ran(due.look(changed, now + 15), now + 15, started=0)
    seen = due.look(changed, now + 35)
    assert [one.why for one in seen.dropped] == ["it was tried 3 times"]
    assert (seen.record.runs, seen.ready) == ({}, ())


def test_a_schedule_that_is_due_again_gives_up_the_run_before() -> None:
    seen = due.look(record(), T0 + 3600)
    failed = ran(seen, T0 + 3600, started=0)
    later = due.look(failed, T0 + 7200)
    assert [(one.run.due, one.why) for one in later.dropped] == [
        (T0 + 3600, "its schedule is due again")
    ]
    assert later.record.runs[""].due == T0 + 7200


@given(st.integers(1, 1440))
def test_a_flexible_window_begins_somewhere_in_it_and_always_there(minutes: int) -> None:
    made = record("at(2026-01-06T00:00:00)", window_s=60.0 * minutes)
    seen = due.look(made, made.next_due)
    run = seen.record.runs[""]
    assert 0 <= run.try_at - made.next_due < 60 * minutes
    assert due.look(made, made.next_due + 0.5).record.runs[""].try_at == run.try_at
    # The age counts from where it begins.
    assert due.look(seen.record, run.try_at + DAY - 1).ready == ("",)
    assert due.look(seen.record, run.try_at + DAY + 1).ready == ()


@settings(max_examples=300)
@given(
    expression=st.sampled_from(
        ["rate(1 minute)", "rate(7 hours)", "cron(0/20 * * * ? *)", "cron(5 3 ? * MON-FRI *)"]
    ),
    steps=st.lists(st.tuples(st.floats(0, 200_000), st.integers(0, 3), st.booleans()), max_size=25),
)
def test_no_history_runs_a_time_twice_or_loses_one_without_a_word(
    expression: str, steps: list[tuple[float, int, bool]]
) -> None:
    """Looks at any times, with failures; a crash loses what was seen, but not what was committed."""
    stored, now = record(expression, count=2), T0
    started: dict[float, int] = {}
    begun: set[float] = set()
    ended: set[float] = set()
    for passed_s, room, crashes in steps:
        now += passed_s
        seen = due.look(stored, now)
        for run in seen.record.runs.values():
            assert run.due <= now
        if crashes:
            continue
        ended |= {one.run.due for one in seen.dropped}
        changed = seen.record
        begun |= {run.due for run in changed.runs.values()}
        for target in seen.ready:
            run = changed.runs[target]
            count = min(room, run.left)
            started[run.due] = started.get(run.due, 0) + count
            changed = due.tried(changed, target, started=count, now=now)
            if target not in changed.runs:
                ended.add(run.due)
        stored = changed
        assert all(count <= 2 for count in started.values())
        assert not stored.next_due or stored.next_due > now
        assert begun - ended == {run.due for run in stored.runs.values()}


@pytest.mark.parametrize("expression", ["rate(1 minute)", "cron(* * * * ? *)"])
def test_a_clock_that_is_set_back_repeats_nothing(expression: str) -> None:
    made = record(expression)
    now = made.next_due
    done = ran(due.look(made, now), now)
    back = due.look(done, now - 3600)
    assert (back.ready, back.record) == ((), done)
