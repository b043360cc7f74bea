"""How many hosts a capacity provider should have, and which are removed. Pure.

``CapacityProviderReservation`` is M / N x 100. N is how many hosts are there. M is how many are needed: while tasks
wait, N and those that they need besides; otherwise those that have tasks, without those of daemons. Without hosts it
is 100 if none is needed, else 200.

- More hosts are wanted as soon as M is above the target: at least ``minimumScalingStepSize`` more, at most
  ``maximumScalingStepSize`` within ``instanceWarmupPeriod``.
- Fewer are wanted when M has been below the target for 15 minutes: at most half of them go, then the same again after
  a minute. Only hosts without tasks are removed, except those of daemons, and none whose warm-up is not over.
- A host that is cut off and has no tasks counts as not there, and is removed after five minutes.
- A host that an operator drains counts as not there, and is left to the operator.

Source: Amazon ECS developer guide, "cluster auto scaling" and "managed scaling behavior". Theirs differs in one point:
from no hosts, it begins with two; here it is as many as are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from agent.controlplane.host_scaling.record import DRAINING, ENDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.controlplane.host_scaling.record import ScalingRecord

LOW_S: Final = 15 * 60.0
"""For how long fewer hosts must be needed before one is removed."""
AGAIN_S: Final = 60.0
"""After how long more are removed."""
LOST_S: Final = 5 * 60.0
"""After how long a host that is cut off and has no tasks is given up."""


class Limits(NamedTuple):
    """What bounds the hosts of a capacity provider."""

    least: int
    most: int
    target: int = 100
    """``targetCapacity``, per cent."""
    smallest_step: int = 1
    largest_step: int = 10_000
    warmup_s: float = 300.0
    drains: bool = True
    """Whether a host is only ended when the tasks of daemons have left it, too."""


class SeenHost(NamedTuple):
    """A container instance of the capacity provider that is not INACTIVE."""

    id: str
    tasks: int = 0
    """That are on it in any way."""
    others: int = 0
    """Those of them that are not of daemons."""
    is_active: bool = True
    """False while it is DRAINING."""
    lost_since: float | None = None
    """Since when its agent is disconnected; None while it is connected."""
    registered_at: float = 0.0


class Order(NamedTuple):
    """What the program is told."""

    hosts: int
    """How many there should be, besides those to remove."""
    remove: tuple[str, ...] = ()
    """Ids of the hosts to end."""
    is_met: bool = True
    """Whether that is so already."""

    @property
    def key(self) -> tuple[int, tuple[str, ...]]:
        """What makes two orders different."""
        return self.hosts, self.remove


class Decision(NamedTuple):
    """What is to be done now."""

    record: ScalingRecord
    drain: tuple[str, ...]
    """Ids of the hosts whose removal begins now."""
    order: Order
    needed: int
    """M."""
    there: int
    """N."""
    wake_at: float | None = None

    @property
    def reservation(self) -> float:
        """Return ``CapacityProviderReservation``, per cent."""
        return reservation(self.needed, self.there)


def reservation(needed: int, there: int) -> float:
    """Return ``CapacityProviderReservation`` of M and N, per cent."""
    if not there:
        return 200.0 if needed else 100.0
    return 100.0 * needed / there


def decide(
    known: ScalingRecord, limits: Limits, seen: Iterable[SeenHost], extra: int, now: float
) -> Decision:
    """Return what is to be done.

    Args:
        known: what was decided before.
        limits: of the capacity provider.
        seen: all of its hosts in the cluster.
        extra: how many more the waiting tasks need.
        now: Unix seconds.
    """
    hosts = {host.id: host for host in seen}
    removing, given_up, moments = _removing(known, limits, hosts, now)
    staying = [host for host in hosts.values() if host.is_active and host.id not in removing]
    there = [host for host in staying if host.lost_since is None or host.tasks]
    count = len(there)
    needed = count + extra if extra else sum(host.others > 0 for host in there)
    wanted = max(limits.least, min(-(-needed * 100 // limits.target), limits.most))
    first = count if known.desired < 0 else known.desired
    desired = max(limits.least, min(first, limits.most))
    record = replace(known, desired=desired, removing=removing)
    chosen: tuple[str, ...] = ()
    current = max(desired, count)
    if wanted > current:
        record = _more(record, limits, wanted, current, now)
        if record.desired < wanted:
            moments.append(record.step_at + limits.warmup_s)
    elif wanted < current:
        record, chosen = _fewer(record, limits, there, wanted, now)
        moments += _when_fewer(record, limits, there, now)
    else:
        record = replace(record, desired=wanted, low_since=0.0)
    if chosen:
        stage = DRAINING if limits.drains else ENDING
        stages = {id_: ENDING if not hosts[id_].tasks else stage for id_ in chosen}
        record = replace(record, removing=record.removing | stages)
    count -= len(chosen)
    aside = sum(
        not host.is_active
        and host.id not in removing
        and (host.lost_since is None or host.tasks > 0)
        for host in hosts.values()
    )
    ending = tuple(sorted(id_ for id_, stage in record.removing.items() if stage == ENDING))
    order = Order(
        max(record.desired, count) + aside, ending, count >= record.desired and not ending
    )
    later = [moment for moment in moments if moment > now]
    wake_at = min(later) if later else None
    return Decision(record, (*given_up, *chosen), order, needed, len(there), wake_at)


def _removing(
    known: ScalingRecord, limits: Limits, hosts: Mapping[str, SeenHost], now: float
) -> tuple[dict[str, str], tuple[str, ...], list[float]]:
    """Return the hosts that are on their way out, those that are given up now, and when others will be."""
    removing: dict[str, str] = {}
    for id_, stage in known.removing.items():
        host = hosts.get(id_)
        if host is not None:
            is_empty = not (host.tasks if limits.drains else host.others)
            removing[id_] = ENDING if is_empty else stage
    given_up, moments = [], []
    for host in hosts.values():
        is_idle = host.is_active and host.id not in removing and not host.tasks
        if is_idle and host.lost_since is not None:
            if now >= host.lost_since + LOST_S:
                given_up.append(host.id)
            else:
                moments.append(host.lost_since + LOST_S)
    return removing | dict.fromkeys(given_up, ENDING), tuple(given_up), moments


def _more(
    record: ScalingRecord, limits: Limits, wanted: int, current: int, now: float
) -> ScalingRecord:
    """Return the record with more hosts, as far as the current step allows."""
    if now >= record.step_at + limits.warmup_s:
        record = replace(record, step_at=now, step_from=current)
    top = min(record.step_from + limits.largest_step, limits.most)
    more = min(max(wanted, current + limits.smallest_step), top)
    return replace(record, desired=max(more, min(current, limits.most)), low_since=0.0)


def _fewer(
    record: ScalingRecord, limits: Limits, there: list[SeenHost], wanted: int, now: float
) -> tuple[ScalingRecord, tuple[str, ...]]:
    """Return the record with fewer hosts if it is time, and the ids of those that go.

    Those that have not come yet are the first.
    """
    current = max(record.desired, len(there))
    kept = replace(record, desired=min(current, limits.most), low_since=record.low_since or now)
    if now < kept.low_since + LOW_S:
        return kept, ()
    drop = min(current - wanted, max(1, current // 2))
    uncome = min(drop, current - len(there))
    idle = [host for host in there if _may_go(host, limits, now)]
    idle.sort(key=lambda host: (host.tasks, -host.registered_at, host.id))
    chosen = tuple(host.id for host in idle[: drop - uncome])
    left = current - uncome - len(chosen)
    if left == current:
        return kept, ()
    # The next ones go after a minute, not after a quarter of an hour.
    again = now - LOW_S + AGAIN_S if left > wanted else 0.0
    return replace(kept, desired=min(left, limits.most), low_since=again), chosen


def _may_go(host: SeenHost, limits: Limits, now: float) -> bool:
    return not host.others and now >= host.registered_at + limits.warmup_s


def _when_fewer(
    record: ScalingRecord, limits: Limits, there: list[SeenHost], now: float
) -> list[float]:
    moments = [record.low_since + LOW_S] if record.low_since else []
    warming = [host.registered_at + limits.warmup_s for host in there if not host.others]
    return [*moments, *(moment for moment in warming if moment > now)]
