"""What all policies of a target want together, within its limits. Pure.

More tasks: the policy that wants most wins. Fewer tasks: only if every target tracking policy that may scale in
wants it, also where a step scaling policy asks for it; of those that do, the one that keeps most wins.

During the cooldown of a scale-out, policies compute from the count before it, so that what was added counts, and
only more than that is added. Fewer tasks wait for both cooldowns; more tasks do not wait for that of a scale-in.
During a deployment nothing is scaled in.

Source: Application Auto Scaling user guide, "How target tracking works", "Define cooldown periods"; Amazon ECS
developer guide, "Automatically scale your service".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from agent.controlplane.scaling import steps, tracking
from agent.controlplane.scaling.target import TRACKING, Scaled
from agent.controlplane.scaling.tracking import Way

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.controlplane.scaling.steps import Firing
    from agent.controlplane.scaling.target import Policy, ScalableTarget
    from agent.controlplane.scaling.tracking import Minute, Wish

COOLDOWN_S = 300.0
"""If the policy has none of its own; that of AWS for ECS services."""
AT_MOST = "AlreadyAtMaxCapacity"
AT_LEAST = "AlreadyAtMinCapacity"


class Seen(NamedTuple):
    """What is known of the service."""

    desired: int
    is_deploying: bool = False


class Decision(NamedTuple):
    """What is to be done now."""

    target: ScalableTarget
    """With what it remembers of this."""
    policy: str
    """The name of the policy that decided."""
    alarm: str
    wanted: int
    """The new desired count; the old one if ``not_scaled``."""
    not_scaled: str = ""
    """The code of the reason why nothing changes, though an alarm asks for it."""


def decide(
    target: ScalableTarget,
    seen: Seen,
    figures: Mapping[str, Mapping[int, Minute]],
    at: int,
    now: float,
    firing: Mapping[str, Sequence[Firing]] | None = None,
) -> Decision | None:
    """Return what to do about the figures of a minute; None for nothing.

    Args:
        target: the target.
        seen: its service.
        figures: of each target tracking policy, by its name.
        at: the last minute that is closed; nothing is decided twice on it.
        now: Unix seconds.
        firing: the alarms in the state ALARM of each step scaling policy, by its name.
    """
    if at <= target.minute:
        return None
    cooling = target.last_out is not None and target.last_out.is_cooling(now)
    base = target.last_out.base if target.last_out is not None and cooling else seen.desired
    counts = {"base": min(base, seen.desired), "desired": seen.desired}
    wishes = [
        (
            policy,
            tracking.wish(policy, figures.get(policy.name, {}), at, **counts)
            if policy.type == TRACKING
            else steps.wish(policy, (firing or {}).get(policy.name, ()), **counts),
        )
        for policy in target.policies
    ]
    outs = [each for each in wishes if each[1].way is Way.OUT]
    if outs:
        return None if target.suspended.scaling_out else _out(target, seen, outs, at, now)
    if target.suspended.scaling_in or seen.is_deploying or cooling:
        return None
    if target.last_in is not None and target.last_in.is_cooling(now):
        return None
    objecting = [
        policy
        for policy, wish in wishes
        if policy.type == TRACKING and policy.may_scale_in and wish.way is not Way.IN
    ]
    ins = [each for each in wishes if each[1].way is Way.IN and each[0].may_scale_in]
    return _in(target, seen, ins, at, now) if ins and not objecting else None


def _out(
    target: ScalableTarget,
    seen: Seen,
    outs: Sequence[tuple[Policy, Wish]],
    at: int,
    now: float,
) -> Decision | None:
    policy, wish = max(outs, key=lambda each: each[1].wanted)
    count = target.within(wish.wanted)
    if count > seen.desired:
        old = target.last_out
        scaled = Scaled(
            at=now,
            cooldown_s=cooldown_s(policy, "ScaleOutCooldown"),
            base=old.base if old is not None and old.is_cooling(now) else seen.desired,
        )
        after = replace(target, last_out=scaled, last_in=None, minute=at, unscaled="")
        return Decision(after, policy.name, wish.alarm, count)
    if seen.desired >= target.max_capacity:
        return _stays(target, policy, wish, seen, AT_MOST)
    return None


def _in(
    target: ScalableTarget,
    seen: Seen,
    ins: Sequence[tuple[Policy, Wish]],
    at: int,
    now: float,
) -> Decision | None:
    policy, wish = max(ins, key=lambda each: each[1].wanted)
    count = target.within(wish.wanted)
    if count < seen.desired:
        scaled = Scaled(at=now, cooldown_s=cooldown_s(policy, "ScaleInCooldown"), base=seen.desired)
        after = replace(target, last_in=scaled, minute=at, unscaled="")
        return Decision(after, policy.name, wish.alarm, count)
    if seen.desired <= target.min_capacity and wish.wanted < seen.desired:
        return _stays(target, policy, wish, seen, AT_LEAST)
    return None


def _stays(
    target: ScalableTarget, policy: Policy, wish: Wish, seen: Seen, code: str
) -> Decision | None:
    """Return a decision that tells the reason, unless it was told for this count."""
    reason = f"{code}/{seen.desired}"
    if target.unscaled == reason:
        return None
    after = replace(target, unscaled=reason)
    return Decision(after, policy.name, wish.alarm, seen.desired, code)


def cooldown_s(policy: Policy, member: str) -> float:
    """Return a cooldown of a policy."""
    given = policy.configuration.get(member if policy.type == TRACKING else "Cooldown")
    return COOLDOWN_S if given is None else float(given)
