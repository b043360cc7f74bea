"""The health of a target, by what every ingress that serves it reports. Pure.

A target is ``initial`` until every ingress has decided: then a request may reach it by any of them. After
that it is ``healthy`` if one of them reaches it. So one ingress that is cut off from the hosts fails no
target that others reach.

Source of states, reasons and descriptions: ``TargetHealth`` in the API reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.loadbalancing.balancer_records import TargetRecord, TargetState

INITIAL = "initial"
HEALTHY = "healthy"
UNHEALTHY = "unhealthy"
UNUSED = "unused"
DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a target."""

    state: str
    reason: str = ""
    description: str = ""

    @property
    def is_unknowable(self) -> bool:
        """Whether no ingress is connected that could tell."""
        return self == _REGISTERING


NOT_REGISTERED = Health(
    UNUSED, "Target.NotRegistered", "Target is not registered to the target group"
)
NOT_IN_USE = Health(
    UNUSED,
    "Target.NotInUse",
    "Target group is not configured to receive traffic from the load balancer",
)
_DEREGISTERING = Health(
    DRAINING, "Target.DeregistrationInProgress", "Target deregistration is in progress"
)
_REGISTERING = Health(INITIAL, "Elb.RegistrationInProgress", "Target registration is in progress")
_CHECKING = Health(INITIAL, "Elb.InitialHealthChecking", "Initial health checks in progress")


def health(
    target: TargetRecord | None,
    reports: Sequence[TargetState | None],
    *,
    is_used: bool,
    now: float,
) -> Health:
    """Return the health of a target.

    Args:
        target: None if there is none.
        reports: what each connected ingress knows of it; None for nothing yet.
        is_used: whether a listener forwards to its group.
        now: Unix seconds.
    """
    if target is None or target.is_gone(now):
        return NOT_REGISTERED
    if target.is_draining(now):
        return _DEREGISTERING
    if not is_used:
        return NOT_IN_USE
    if not reports:
        return _REGISTERING
    known = [report for report in reports if report is not None]
    if len(known) < len(reports) or any(report.state == INITIAL for report in known):
        return _CHECKING
    if any(report.state == HEALTHY for report in known):
        return Health(HEALTHY)
    return Health(UNHEALTHY, known[0].reason, known[0].description)


def is_drained(
    target: TargetRecord, reports: Sequence[TargetState | None], *, is_used: bool, now: float
) -> bool:
    """Return whether a target that is being deregistered has no requests left.

    It has none when its time is over, when no listener uses its group, or when every connected ingress says
    so. Without an ingress, nobody knows: one that is cut off may still use it, until the time is over.
    """
    if target.is_gone(now) or not is_used:
        return True
    return bool(reports) and all(report is not None and report.is_idle for report in reports)
