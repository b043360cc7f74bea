"""Load balancers, listeners with their rules, target groups, targets and their health, as they are stored.

Plain data and keys. Times are Unix seconds by control's clock.

::

    /load-balancers/<name>                         LoadBalancerRecord
    /listeners/<load balancer>/<id>                ListenerRecord      with its rules
    /target-groups/<name>                          TargetGroupRecord
    /target-group-uses/<group id>                  empty               put by everyone who begins to use a
                                                                       group, so that a deletion that has
                                                                       looked for users notices
    /targets/<group id>/<target id>/<port>         TargetRecord
    /ingresses/<ingress id>                        IngressRecord       under the lease of an ingress
    /target-health/<ingress id>/<group id>         HealthRecord        the same (see ``loadbalancing``)
"""

from __future__ import annotations

from typing import Final

from msgspec import field
from msgspec.structs import replace

from agent.controlplane.records import Record

LOAD_BALANCERS: Final = "/load-balancers/"
LISTENERS: Final = "/listeners/"
TARGET_GROUPS: Final = "/target-groups/"
GROUP_USES: Final = "/target-group-uses/"
TARGETS: Final = "/targets/"
INGRESSES: Final = "/ingresses/"
TARGET_HEALTH: Final = "/target-health/"

APPLICATION: Final = "application"
NETWORK: Final = "network"

FORWARD: Final = "forward"
REDIRECT: Final = "redirect"
FIXED_RESPONSE: Final = "fixed-response"

PROTECTION: Final = "deletion_protection.enabled"
IDLE_TIMEOUT: Final = "idle_timeout.timeout_seconds"
ALGORITHM: Final = "load_balancing.algorithm.type"
DEREGISTRATION_DELAY: Final = "deregistration_delay.timeout_seconds"
DEFAULT_DELAY_S: Final = 300
TRAFFIC_PORT: Final = "traffic-port"


class LoadBalancerRecord(Record, frozen=True, kw_only=True):
    """A load balancer."""

    name: str
    id: str
    """16 hexadecimal digits, in its ARN."""
    arn: str
    kind: str = APPLICATION
    """APPLICATION (HTTP) or NETWORK (TCP)."""
    scheme: str = "internet-facing"
    subnets: list[str] = field(default_factory=list)
    security_groups: list[str] = field(default_factory=list)
    created_at: float = 0.0
    attributes: dict[str, str] = field(default_factory=dict)
    """Those that were set."""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def is_protected(self) -> bool:
        """Whether it must not be deleted."""
        return self.attributes.get(PROTECTION) == "true"


class WeightedGroup(Record, frozen=True, kw_only=True):
    """A target group of a forward action, and its share."""

    target_group_arn: str
    weight: int = 1
    """0 to 999; shares of all groups of the action are in the ratio of their weights."""


class ActionRecord(Record, frozen=True, kw_only=True):
    """What a rule does with a request."""

    kind: str
    """FORWARD, REDIRECT or FIXED_RESPONSE."""
    groups: list[WeightedGroup] = field(default_factory=list)
    """Of FORWARD; one to five."""
    settings: dict[str, str] = field(default_factory=dict)
    """Of REDIRECT and FIXED_RESPONSE, as ``RedirectConfig`` and ``FixedResponseConfig`` have them."""


class ConditionRecord(Record, frozen=True, kw_only=True):
    """One condition of a rule; one of its values must match."""

    kind: str
    """As ``RuleCondition.Field``: ``host-header``, ``path-pattern``..."""
    values: list[str] = field(default_factory=list)
    header: str = ""
    """Name of the header, of ``http-header``."""
    pairs: list[dict[str, str]] = field(default_factory=list)
    """``Key`` (may be missing) and ``Value``, of ``query-string``."""


class RuleRecord(Record, frozen=True, kw_only=True):
    """A rule of a listener."""

    id: str
    """16 hexadecimal digits, in its ARN."""
    priority: int = 0
    """1 to 50,000; lower ones are tried first. 0 for the default rule, which is tried last."""
    conditions: list[ConditionRecord] = field(default_factory=list)
    """All must match."""
    action: ActionRecord
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def is_default(self) -> bool:
        """Whether it is the rule for requests that no other rule matches."""
        return self.priority == 0


class ListenerRecord(Record, frozen=True, kw_only=True):
    """A listener of a load balancer, with its rules."""

    id: str
    """16 hexadecimal digits, in its ARN."""
    arn: str
    load_balancer: str
    """Name of the load balancer."""
    load_balancer_arn: str
    protocol: str
    """HTTP, or TCP for a network load balancer."""
    port: int
    rules: list[RuleRecord] = field(default_factory=list)
    """By priority, the default rule first; never empty."""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def default_rule(self) -> RuleRecord:
        """The rule for requests that no other rule matches."""
        return self.rules[0]


class HealthCheck(Record, frozen=True, kw_only=True):
    """How the health of a group's targets is checked."""

    protocol: str = "HTTP"
    """HTTP, HTTPS or TCP."""
    port: str = TRAFFIC_PORT
    """A port, or TRAFFIC_PORT for that of each target."""
    path: str = "/"
    """Of HTTP and HTTPS."""
    matcher: str = "200"
    """Status codes of HTTP and HTTPS that mean healthy: ``200``, ``200,202``, ``200-299``."""
    interval_s: int = 30
    timeout_s: int = 5
    healthy_threshold: int = 5
    unhealthy_threshold: int = 2


class TargetGroupRecord(Record, frozen=True, kw_only=True):
    """A target group."""

    name: str
    id: str
    """16 hexadecimal digits, in its ARN."""
    arn: str
    protocol: str
    """HTTP or TCP."""
    port: int
    """Of targets that are registered without one."""
    target_type: str = "instance"
    """``instance`` or ``ip``: what ids of targets are."""
    health_check: HealthCheck = HealthCheck()
    attributes: dict[str, str] = field(default_factory=dict)
    """Those that were set."""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def deregistration_delay_s(self) -> int:
        """How long a target that is deregistered may still finish its requests."""
        return int(self.attributes.get(DEREGISTRATION_DELAY, DEFAULT_DELAY_S))


class TargetRecord(Record, frozen=True, kw_only=True):
    """A target of a group."""

    group_arn: str
    id: str
    """An IP address, or the id of a container instance."""
    port: int
    address: str = ""
    """Where it is reached; differs from ``id`` for an instance."""
    zone: str = ""
    """As given to RegisterTargets; empty if it was not."""
    drains_until: float = 0.0
    """When it is deregistered and may not be used any more; 0 while it is registered."""
    task_id: str = ""
    """The task that it is, if a service has registered it."""

    def is_draining(self, now: float) -> bool:
        """Return whether it is deregistered and may still finish its requests."""
        return now < self.drains_until

    def draining(self, until: float) -> TargetRecord:
        """Return it deregistered, if it is not already; ``until`` are Unix seconds."""
        return self if self.drains_until else replace(self, drains_until=until)

    def is_gone(self, now: float) -> bool:
        """Return whether it was deregistered, and its time is over."""
        return 0 < self.drains_until <= now


class IngressRecord(Record, frozen=True, kw_only=True):
    """A proxy that is connected."""

    load_balancers: list[str] = field(default_factory=list)
    """Names of those that it serves; none for all."""


class TargetState(Record, frozen=True, kw_only=True):
    """What an ingress knows of a target."""

    state: str
    """``initial``, ``healthy`` or ``unhealthy``."""
    reason: str = ""
    """As ``TargetHealth.Reason``, of ``unhealthy``."""
    description: str = ""
    is_idle: bool = False
    """Whether the target was taken out of use here, and has no connections any more."""


class HealthRecord(Record, frozen=True, kw_only=True):
    """What an ingress knows of the targets of one group."""

    targets: dict[str, TargetState] = field(default_factory=dict)
    """By ``target_name``."""


def target_name(target_id: str, port: int) -> str:
    """Return what names a target in its group."""
    return f"{target_id}/{port}"


def load_balancer_key(name: str) -> str:
    """Return the key of a load balancer."""
    return f"{LOAD_BALANCERS}{name}"


def listeners_prefix(load_balancer: str) -> str:
    """Return the prefix of the listeners of a load balancer."""
    return f"{LISTENERS}{load_balancer}/"


def listener_key(load_balancer: str, listener_id: str) -> str:
    """Return the key of a listener."""
    return f"{LISTENERS}{load_balancer}/{listener_id}"


def target_group_key(name: str) -> str:
    """Return the key of a target group."""
    return f"{TARGET_GROUPS}{name}"


def group_use_key(group_id: str) -> str:
    """Return the key that everyone puts who begins to use a target group."""
    return f"{GROUP_USES}{group_id}"


def targets_prefix(group_id: str) -> str:
    """Return the prefix of the targets of a group."""
    return f"{TARGETS}{group_id}/"


def target_key(group_id: str, target_id: str, port: int) -> str:
    """Return the key of a target."""
    return f"{TARGETS}{group_id}/{target_name(target_id, port)}"


def ingress_key(ingress_id: str) -> str:
    """Return the key that exists while an ingress is connected."""
    return f"{INGRESSES}{ingress_id}"


def health_key(ingress_id: str, group_id: str) -> str:
    """Return the key of what an ingress knows of a group's targets."""
    return f"{TARGET_HEALTH}{ingress_id}/{group_id}"
