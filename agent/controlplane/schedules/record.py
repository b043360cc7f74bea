"""What is stored about schedules, rules and groups. Plain data.

::

    /schedules/<group>/<name>      ScheduleRecord
    /schedule-rules/<name>         ScheduleRecord   of a rule of EventBridge
    /schedule-groups/<name>        GroupRecord
    /schedule-deletions/<token>    DeletionRecord   by the client token of the call; for a day (``janitor``)

A record is written by operators' calls and by the loop, always by comparing it.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import field

from agent.controlplane.records import Record

ALL: Final = "/schedule"
"""What all keys of this package begin with."""
SCHEDULES: Final = "/schedules/"
RULES: Final = "/schedule-rules/"
GROUPS: Final = "/schedule-groups/"
DELETIONS: Final = "/schedule-deletions/"
DEFAULT_GROUP: Final = "default"
ENABLED: Final = "ENABLED"
DISABLED: Final = "DISABLED"


class TargetRecord(Record, frozen=True):
    """What runs."""

    id: str
    """Of a rule's target; empty for the one of a schedule."""
    shown: dict[str, Any]
    """As the API takes and shows it."""
    request: dict[str, Any]
    """The RunTask request that it stands for."""
    retries: int = 185
    most_age_s: float = 86_400.0
    """For how long after its time a run is tried."""


class RunRecord(Record, frozen=True):
    """A run that is due, or was tried and could not start all of its tasks."""

    due: float
    """The time of the expression."""
    begins_at: float
    """When it is first tried: later than ``due`` in a flexible window."""
    try_at: float
    left: int
    """How many tasks are still to start."""
    tries: int = 0


class ScheduleRecord(Record, frozen=True):
    """A schedule or a rule."""

    name: str
    arn: str
    expression: str
    group: str = ""
    """Empty for a rule."""
    zone: str = "UTC"
    state: str = ENABLED
    description: str = ""
    role: str = ""
    """Of a rule; shown, and without effect."""
    tags: dict[str, str] = field(default_factory=dict)
    """Of a rule; of schedules, groups have them."""
    targets: list[TargetRecord] = field(default_factory=list)
    start: float = 0.0
    end: float = 0.0
    """Unix seconds, whole ones; 0 for none."""
    window_s: float = 0.0
    """Of a flexible time window; 0 for none."""
    deletes_itself: bool = False
    """Whether it is deleted when it is never due again and nothing is left to run."""
    client_token: str = ""
    fingerprint: str = ""
    """Hash of the request that created it."""
    update_token: str = ""
    update_fingerprint: str = ""
    """The same of the last UpdateSchedule call."""
    created_at: float = 0.0
    changed_at: float = 0.0
    base: float = 0.0
    """From where a rate counts."""
    next_due: float = 0.0
    """0 for never again; also for one that is DISABLED."""
    runs: dict[str, RunRecord] = field(default_factory=dict)
    """By the id of their target."""
    last_due: float = 0.0
    """The time of the newest run."""

    @property
    def key(self) -> str:
        """Where it is stored."""
        return schedule_key(self.group, self.name) if self.group else rule_key(self.name)

    @property
    def started_by(self) -> str:
        """``startedBy`` of its tasks, within the characters that RunTask takes."""
        kind = "chronos-schedule" if self.group else "events-rule"
        return f"{kind}/{self.name.replace('.', '_')}"[:128]


class GroupRecord(Record, frozen=True):
    """A group of schedules; ``default`` exists without a record."""

    name: str
    arn: str
    tags: dict[str, str] = field(default_factory=dict)
    client_token: str = ""
    created_at: float = 0.0
    changed_at: float = 0.0

    @property
    def key(self) -> str:
        """Where it is stored."""
        return group_key(self.name)


class DeletionRecord(Record, frozen=True):
    """What a call with a client token has deleted."""

    arn: str
    at: float = 0.0


def schedule_key(group: str, name: str) -> str:
    """Return the key of a schedule."""
    return f"{SCHEDULES}{group}/{name}"


def rule_key(name: str) -> str:
    """Return the key of a rule."""
    return f"{RULES}{name}"


def group_key(name: str) -> str:
    """Return the key of a group."""
    return f"{GROUPS}{name}"


def deletion_key(client_token: str) -> str:
    """Return the key of what a call with a client token has deleted."""
    return f"{DELETIONS}{client_token}"
