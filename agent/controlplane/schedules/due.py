"""What a schedule is due to run now, and when to look again. Pure.

**Missed runs.** Of the times that passed while nobody looked, the newest is run, once and late, if it is not
older than the target's maximum event age (24 hours unless it says otherwise); the others are not. A run
whose tasks cannot be started is tried again until its retries or its age are used up, or its
schedule is due again.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from agent.controlplane.schedules import expressions
from agent.controlplane.schedules.record import ENABLED, RULES, RunRecord, ScheduleRecord

if TYPE_CHECKING:
    from agent.controlplane.schedules.expressions import Expression
    from agent.controlplane.schedules.record import TargetRecord

FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 600.0
_OLDEST_S: Final = 86_400.0
"""No target lets a run be older."""
_BACK_S: Final = (60.0, 3600.0, 21_600.0)
"""How far before now the newest missed time is looked for first."""


class Dropped(NamedTuple):
    """A run that is not tried any more."""

    target: str
    run: RunRecord
    why: str


class Look(NamedTuple):
    """A schedule as it is at a moment."""

    record: ScheduleRecord
    """With every run that is due, and the next time."""
    ready: tuple[str, ...] = ()
    """Ids of the targets whose runs are to be tried now."""
    dropped: tuple[Dropped, ...] = ()
    is_over: bool = False
    """Whether it has nothing left to do and deletes itself."""
    wake_at: float | None = None
    """When to look again even if nothing changes; None for never."""


def begun(record: ScheduleRecord, now: float) -> ScheduleRecord:
    """Return a new or changed record, due from now on; what is left of earlier runs is dropped.

    Raises:
        ExpressionInvalid: the expression or the time zone is not valid.
    """
    expression = expressions.parse(record.expression, is_rule=record.key.startswith(RULES))
    first = record.start
    if isinstance(expression, expressions.Rate) and not first:
        # In whole seconds, so that multiples of the rate are exact.
        first = math.ceil(now) + float(expression.every_s)
    record = replace(record, base=first, runs={})
    if record.state != ENABLED:
        return replace(record, next_due=0.0)
    # A time that is now is due: start dates are included.
    return replace(record, next_due=_next(record, expression, max(now, record.start - 1e-6)))


def look(record: ScheduleRecord, now: float) -> Look:
    """Return what a record is due to do."""
    dropped: list[Dropped] = []
    if record.state == ENABLED and record.next_due and record.next_due <= now:
        record, dropped = _advanced(record, now)
    targets = {target.id: target for target in record.targets}
    runs = {}
    for target_id, run in record.runs.items():
        target = targets.get(target_id)
        if target is None:
            continue
        why = _given_up(target, run, now)
        if why:
            dropped.append(Dropped(target_id, run, why))
        else:
            runs[target_id] = run
    if runs != record.runs:
        record = replace(record, runs=runs)
    times = [record.next_due] if record.next_due and record.state == ENABLED else []
    times += [run.try_at for run in runs.values()]
    return Look(
        record,
        tuple(target_id for target_id, run in runs.items() if run.try_at <= now),
        tuple(dropped),
        is_over=record.deletes_itself and not times and record.state == ENABLED,
        wake_at=min(times, default=None),
    )


def tried(record: ScheduleRecord, target_id: str, *, started: int, now: float) -> ScheduleRecord:
    """Return the record after a run was tried: without it if all of its tasks have started."""
    run = record.runs[target_id]
    others = {name: value for name, value in record.runs.items() if name != target_id}
    if started >= run.left:
        return replace(record, runs=others)
    wait_s = min(FIRST_RETRY_S * 2.0 ** min(run.tries, 20), LONGEST_RETRY_S)
    again = replace(run, left=run.left - started, tries=run.tries + 1, try_at=now + wait_s)
    return replace(record, runs=others | {target_id: again})


def _given_up(target: TargetRecord, run: RunRecord, now: float) -> str:
    """Return why a run is not tried any more; empty if it is."""
    if run.tries > target.retries:
        return f"it was tried {run.tries} times"
    if now - run.begins_at > target.most_age_s:
        return f"it is older than {target.most_age_s:.0f} s"
    return ""


def _advanced(record: ScheduleRecord, now: float) -> tuple[ScheduleRecord, list[Dropped]]:
    """Return the record with the run of the newest time that has come, and the runs it replaces."""
    expression = expressions.parse(record.expression, is_rule=record.key.startswith(RULES))
    due = record.next_due
    if isinstance(expression, expressions.Rate):
        due += (min(now, record.end or now) - due) // expression.every_s * expression.every_s
    following = _next(record, expression, due)
    if following and following <= now:
        following = _recent(record, expression, following, now)
    while following and following <= now:
        due, following = following, _next(record, expression, following)
    dropped = [
        Dropped(target_id, run, "its schedule is due again")
        for target_id, run in record.runs.items()
    ]
    runs = {}
    for target in record.targets:
        at = due + _offset_s(record, target, due)
        left = target.request.get("count", 1)
        runs[target.id] = RunRecord(due=due, begins_at=at, try_at=at, left=left)
    return replace(record, next_due=following, last_due=due, runs=runs), dropped


def _recent(record: ScheduleRecord, expression: Expression, following: float, now: float) -> float:
    """Return a missed time with few others behind it; looks from the end, where the newest one is."""
    for back_s in _BACK_S:
        later = _next(record, expression, now - back_s) if now - back_s > following else 0.0
        if later and later <= now:
            return later
    return following if following >= now - _OLDEST_S else _next(record, expression, now - _OLDEST_S)


def _next(record: ScheduleRecord, expression: Expression, after: float) -> float:
    """Return the next time within the dates of a record; 0 if there is none."""
    where = expressions.zone(record.zone)
    after = max(after, record.start - 1e-6)
    due = expressions.next_after(expression, after, where, base=record.base)
    if due is None or (record.end and due > record.end):
        return 0.0
    return due


def _offset_s(record: ScheduleRecord, target: TargetRecord, due: float) -> float:
    """Return how far into its flexible window a run begins; always the same for one run."""
    if not record.window_s:
        return 0.0
    digest = hashlib.sha256(f"{record.arn}/{target.id}/{due}".encode()).digest()
    return int.from_bytes(digest[:6]) % int(record.window_s)
