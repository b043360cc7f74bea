"""Alarms on figures of a service: what is stored, and their state. Pure.

They start step scaling, and make deployments fail that watch them (``services.deployment_alarms``).

::

    /alarms/<name>   AlarmRecord

An alarm has no state of its own: it follows from the figures of the last minutes, so nothing has to be kept or to be
caught up with after a restart. Its periods end with the last minute that is closed. SetAlarmState gives it a state for
the next minute that is closed, so that everybody whom the alarm concerns sees that state once.

Source: CloudWatch user guide, "Using Amazon CloudWatch alarms", "Configuring how alarms treat missing data".
"""

from __future__ import annotations

import operator
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import field

from agent.controlplane.records import Record
from agent.controlplane.scaling.figures import value_of
from agent.controlplane.scaling.tracking import LOW_MINUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.scaling.figures import Values

ALARMS = "/alarms/"
MINUTES_MOST = LOW_MINUTES
"""How many minutes the periods of an alarm may have together."""
COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
MISSING, BREACHING, NOT_BREACHING = "missing", "breaching", "notBreaching"


class AlarmRecord(Record, frozen=True):
    """An alarm."""

    name: str
    cluster: str
    service: str
    namespace: str
    metric: str
    statistic: str
    period_s: int
    """A multiple of 60."""
    periods: int
    datapoints: int | None
    """How many of the periods must breach, as given; None for all."""
    threshold: float
    comparison: str
    treat_missing: str = MISSING
    actions: list[str] = field(default_factory=list)
    """ARNs of scaling policies."""
    is_enabled: bool = True
    """Whether it starts its actions."""
    description: str = ""
    unit: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    updated_at: float = 0.0
    set_state: str = ""
    """What somebody set; empty if nobody did."""
    set_reason: str = ""
    set_value: float | None = None
    """The figure that was named for it."""
    set_until: int = 0
    """The last minute for which that counts."""

    @property
    def key(self) -> str:
        """Where it is stored."""
        return f"{ALARMS}{self.name}"

    @property
    def datapoints_needed(self) -> int:
        """How many of the periods must breach."""
        return self.periods if self.datapoints is None else self.datapoints


class State(Enum):
    """The state of an alarm."""

    OK = "OK"
    ALARM = "ALARM"
    UNKNOWN = "INSUFFICIENT_DATA"


class Evaluated(NamedTuple):
    """An alarm at one minute."""

    state: State
    value: float | None = None
    """Of the newest period that has one."""
    is_whole: bool = False
    """Whether every period has figures, of all tasks that ran."""
    is_set: bool = False
    """Whether somebody has set it."""

    def explained(self, alarm: AlarmRecord) -> str:
        """Return why it is in this state, for a person."""
        if self.is_set:
            return alarm.set_reason
        if self.value is None:
            return f"No figures of the last {alarm.periods} periods"
        relation = "crossed" if self.state is State.ALARM else "did not cross"
        return f"The figure {self.value:g} {relation} the threshold ({alarm.threshold:g})"


def evaluate(alarm: AlarmRecord, minutes: Mapping[int, Values], at: int) -> Evaluated:
    """Return the state of an alarm.

    Args:
        alarm: the alarm.
        minutes: the figures of its metric.
        at: the last minute that is closed.
    """
    if alarm.set_state and at <= alarm.set_until:
        return Evaluated(State(alarm.set_state), alarm.set_value, is_whole=True, is_set=True)
    breaches = COMPARISONS[alarm.comparison]
    length = alarm.period_s // 60
    values: list[float | None] = []
    is_whole = True
    for number in range(alarm.periods):
        end = at - number * length
        known = [minutes[m] for m in range(end - length + 1, end + 1) if m in minutes]
        values.append(_of(known, alarm.statistic))
        is_whole = is_whole and len(known) == length and all(each.is_whole for each in known)
    given = [value for value in values if value is not None]
    breaching = sum(breaches(value, alarm.threshold) for value in given)
    if alarm.treat_missing == BREACHING:
        breaching += len(values) - len(given)
    newest = given[0] if given else None
    if breaching >= alarm.datapoints_needed:
        return Evaluated(State.ALARM, newest, is_whole)
    is_unknown = not given and alarm.treat_missing == MISSING
    return Evaluated(State.UNKNOWN if is_unknown else State.OK, newest, is_whole)


def _of(known: list[Values], statistic: str) -> float | None:
    if not known:
        return None
    merged = known[0].values
    for each in known[1:]:
        merged = merged.plus(each.values)
    return value_of(merged, statistic)
