"""What is stored about autoscaling. Plain data, and the keys.

::

    /scaling/<cluster>/<service>             ScalableTarget
    /scaling-activities/<cluster>/<service>  ActivitiesRecord   only put together with the target
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import field

from agent.controlplane.records import Record

if TYPE_CHECKING:
    from agent.controlplane.names import Names

TARGETS = "/scaling/"
ACTIVITIES = "/scaling-activities/"

TRACKING = "TargetTrackingScaling"
STEPS = "StepScaling"

DIMENSION = "ecs:service:DesiredCount"
NAMESPACE = "ecs"

ACTIVITIES_KEPT = 100
"""Of one target."""
ACTIVITIES_KEPT_S = 42 * 24 * 3600.0
"""For how long, as on AWS."""
POLICIES_MOST = 50
"""Of one target; the quota of AWS."""
ACTIONS_MOST = 200
"""The same of scheduled actions."""
UTC = "UTC"
"""The time zone of actions that name none."""
CAPACITY_MOST = 5000
"""The most tasks of a service."""

IN_PROGRESS = "InProgress"
SUCCESSFUL = "Successful"
OVERRIDDEN = "Overridden"
FAILED = "Failed"


class Policy(Record, frozen=True):
    """A scaling policy."""

    name: str
    id: str
    """The UUID in its ARN."""
    type: str
    configuration: dict[str, Any]
    """As it was put: one of the configurations of PutScalingPolicy."""
    created_at: float = 0.0
    high_alarm: str = ""
    """The names of the alarms of target tracking."""
    low_alarm: str = ""

    @property
    def may_scale_in(self) -> bool:
        """Whether a target tracking policy lowers the count too."""
        return not self.configuration.get("DisableScaleIn", False)


class ScheduledAction(Record, frozen=True):
    """Limits that a target gets at some times."""

    name: str
    id: str
    """The UUID in its ARN."""
    schedule: str
    """``at(...)``, ``rate(...)`` or ``cron(...)``."""
    zone: str = UTC
    start_at: float = 0.0
    """Unix seconds before which it is never due; 0 for none."""
    end_at: float = 0.0
    """Unix seconds after which it is never due; 0 for none."""
    min_capacity: int | None = None
    """None keeps what the target has."""
    max_capacity: int | None = None
    created_at: float = 0.0
    done_at: float = 0.0
    """The last time that it was due and was done; the time when it was put at first."""


class Suspended(Record, frozen=True):
    """What the target does not do for now."""

    scaling_in: bool = False
    scaling_out: bool = False
    scheduled: bool = False


class Scaled(Record, frozen=True):
    """The last time that a policy changed the count in one direction."""

    at: float
    cooldown_s: float
    base: int
    """The count from which the policies compute until the cooldown is over."""

    def is_cooling(self, now: float) -> bool:
        """Tell whether the cooldown goes on."""
        return self.at <= now < self.at + self.cooldown_s


class ScalableTarget(Record, frozen=True):
    """A service whose desired count may be changed."""

    cluster: str
    service: str
    id: str
    """In its ARN."""
    min_capacity: int
    max_capacity: int
    created_at: float = 0.0
    suspended: Suspended = Suspended()
    tags: dict[str, str] = field(default_factory=dict)
    policies: list[Policy] = field(default_factory=list)
    """By name."""
    actions: list[ScheduledAction] = field(default_factory=list)
    """By name."""
    last_out: Scaled | None = None
    last_in: Scaled | None = None
    minute: int = 0
    """The last minute of figures on which something was decided, since 1970."""
    is_pending: bool = False
    """Whether the last change of the count is still to be fulfilled by the service."""
    unscaled: str = ""
    """Why the last decision changed nothing, as far as an activity has told it."""

    @property
    def resource_id(self) -> str:
        """The name of the resource on AWS."""
        return f"service/{self.cluster}/{self.service}"

    @property
    def name(self) -> str:
        """By which targets are listed."""
        return f"{self.cluster}/{self.service}"

    @property
    def key(self) -> str:
        """Where it is stored."""
        return target_key(self.cluster, self.service)

    def policy(self, name: str) -> Policy | None:
        """Return the policy of a name; None if there is none."""
        return next((one for one in self.policies if one.name == name), None)

    def action(self, name: str) -> ScheduledAction | None:
        """Return the scheduled action of a name; None if there is none."""
        return next((one for one in self.actions if one.name == name), None)

    def limits(self, action: ScheduledAction) -> tuple[int, int]:
        """Return the least and the most that an action gives it; the least may be above the most."""
        return (
            self.min_capacity if action.min_capacity is None else action.min_capacity,
            self.max_capacity if action.max_capacity is None else action.max_capacity,
        )

    def within(self, count: int) -> int:
        """Return the count that is nearest to one and within the limits."""
        return min(max(count, self.min_capacity), self.max_capacity)


class Activity(Record, frozen=True):
    """Something that autoscaling did, or says why it did not."""

    id: str
    description: str
    cause: str
    at: float
    wanted: int = 0
    """The desired count that it set."""
    status: str = SUCCESSFUL
    message: str = ""
    ended_at: float = 0.0
    not_scaled: str = ""
    """The code of the reason, if it did nothing."""
    current: int = 0
    """With that, the count at that time."""


class ActivitiesRecord(Record, frozen=True):
    """The activities of a target, newest first."""

    activities: list[Activity] = field(default_factory=list)


def policy_arn(names: Names, target: ScalableTarget, policy: Policy) -> str:
    """Return the ARN of a policy, which alarms name as their action."""
    return (
        f"arn:{names.partition}:autoscaling:{names.region}:{names.account}:scalingPolicy:{policy.id}:"
        f"resource/{NAMESPACE}/{target.resource_id}:policyName/{policy.name}"
    )


def target_key(cluster: str, service: str) -> str:
    """Return the key of a target."""
    return f"{TARGETS}{cluster}/{service}"


def activities_key(cluster: str, service: str) -> str:
    """Return the key of the activities of a target."""
    return f"{ACTIVITIES}{cluster}/{service}"
