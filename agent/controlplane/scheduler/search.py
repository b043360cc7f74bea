"""The search for hosts of one placement: the same hosts as if each were looked at, and few are.

A few hosts are drawn at random first. One is taken if it fits and if none can be better: for each strategy, a bound of
the best rank is known without looking. Among many hosts that are equally good one is soon found, and each is as likely
as the others. If none is found, hosts are looked at in the order of the strategies: bucket by bucket for ``spread``, from
the fullest host on for ``binpack``, until one fits. So it takes long only where most hosts with enough CPU and
memory do not fit for another reason.

Copies that were chosen are in the index of the pool until the search ends, so that later ones see what they use.

Pure; the pool must not be changed meanwhile. Tests: ``tests/unit/controlplane/scheduler/test_pool.py``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Self

from agent.controlplane.scheduler import placement
from agent.controlplane.scheduler.host_index import HostIndex, Slab, fullest_first
from agent.controlplane.scheduler.host_room import HostRoom
from agent.controlplane.scheduler.placement import Placed, Rejection

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from agent.controlplane.scheduler.instance import TaskNeeds
    from agent.controlplane.scheduler.placement import Constraint, Strategy
    from agent.controlplane.scheduler.pool import Pool

DRAWS: Final = 32
"""How many hosts are drawn before others are looked at; of so few, each is looked at."""
_BUCKETS_MOST: Final = 1000
"""Of so many buckets, all are looked at for a bound."""
_SAMPLE: Final = 8
"""How many hosts are drawn to see which attributes are rare."""

Region = tuple[HostIndex, ...]
"""Where hosts are looked for; no host is in two of them."""


class Search:
    """One placement: ``with Search(...) as search`` and then ``search.next(...)`` for each copy."""

    def __init__(
        self,
        pool: Pool,
        needs: TaskNeeds,
        constraints: Sequence[Constraint],
        strategies: Sequence[Strategy],
        rng: random.Random,
    ) -> None:
        self._pool = pool
        self._needs = needs
        self._constraints = constraints
        self._distinct = any(one.kind == "distinctInstance" for one in constraints)
        self._rng = rng
        self._counts = pool.group(needs.group)
        self._strategies = [one for one in strategies if one.kind != "random"]
        self._crowds = {
            one.field: Counter(self._counts.by_bucket(one.field, pool.hosts))
            for one in self._strategies
            if one.is_by_attribute
        }
        self._rooms: dict[str, HostRoom] = {}
        """Hosts of copies that were chosen, by ARN."""
        self._regions: dict[str | None, list[Region]] = {}
        """By capacity provider, the better ones first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the pool as it was."""
        for arn in self._rooms:
            host = self._pool.hosts[arn]
            self._pool.connected.put(arn, host.cpu_units, host.memory_mib, host.attributes)

    def next(self, provider: str | None) -> Placed | None:
        """Choose the host of the next copy; None if there is no room for it.

        Args:
            provider: its capacity provider; empty for the launch type FARGATE, None for any host.
        """
        if provider not in self._regions:
            self._regions[provider] = self._begin(provider)
        for region in self._regions[provider]:
            arn = self._best(region, self._strategies)
            if arn is not None:
                return self._take(arn, provider or "")
        return None

    def refused(self) -> list[Rejection]:
        """Return why each host takes no further copy; looks at all of them."""
        found = []
        for arn, host in self._pool.hosts.items():
            reason = self._unfit(arn)
            if reason:
                detail = placement.detail(host, self._needs, reason)
            else:  # It has room: it is of another capacity provider.
                reason, detail = placement.ATTRIBUTE, placement.other_provider(host)
            found.append(Rejection(arn, reason, detail))
        return found

    def _begin(self, provider: str | None) -> list[Region]:
        """Return the hosts that may be for a capacity provider, without those that miss a rare attribute."""
        connected = self._pool.connected
        if provider is None:
            regions: list[Region] = [(connected,)]
        else:
            regions = [
                tuple(part for value, part in _parts(connected) if (value or "") == wanted)
                for wanted in placement.provider_values(provider)
            ]
        return [self._narrowed(region) for region in regions if region]

    def _narrowed(self, region: Region) -> Region:
        for constraint in self._constraints:
            if constraint.attribute:
                region = self._having(region, constraint.attribute, constraint.takes)
        for _ in self._needs.attributes:
            hosts = self._slabs(region)
            if _size(hosts) <= DRAWS:
                break
            drawn = [self._pool.hosts[self._draw(hosts)] for _ in range(_SAMPLE)]
            lacking = Counter(placement.missing_name(host, self._needs) for host in drawn)
            name, times = lacking.most_common(1)[0]
            if not name or times < _SAMPLE // 2:
                break
            wanted = self._needs.attributes[name]
            region = self._having(
                region,
                name,
                lambda value, wanted=wanted: value is not None and wanted in ("", value),  # type: ignore[misc]
            )
        return region

    def _having(self, region: Region, name: str, takes: Callable[[str | None], bool]) -> Region:
        return tuple(
            part for index in region for value, part in index.parts(name).items() if takes(value)
        )

    def _best(self, region: Region, strategies: Sequence[Strategy]) -> str | None:
        """Return the best host of a region that fits; None if none does."""
        slabs = self._slabs(region)
        if not strategies or strategies[0].kind == "spread":
            found = self._pick(region, slabs, strategies)
            if found is not None or _size(slabs) <= DRAWS:
                return found
        if not strategies or strategies[0].field == placement.INSTANCE_ID:
            return self._of_all(slabs, strategies)
        first, rest = strategies[0], strategies[1:]
        if first.kind == "binpack":
            at_least = self._needs.cpu_units if first.field == "cpu" else self._needs.memory_mib
            for equal in fullest_first(region, first.field, at_least):
                found = self._pick(region, equal, rest)
                if found is None and _size(equal) > DRAWS:
                    found = self._of_all(equal, rest)
                if found is not None:
                    return found
            return None
        for part in self._emptiest_first(region, first.field):
            found = self._best(part, rest)
            if found is not None:
                return found
        return None

    def _pick(
        self, region: Region, slabs: Sequence[Slab], strategies: Sequence[Strategy]
    ) -> str | None:
        """Return the best host of few; of many, one that none can be better than, if it is soon found."""
        if _size(slabs) <= DRAWS:
            return self._of_all(slabs, strategies)
        if any(one.kind == "binpack" for one in strategies):
            return None
        bounds = [self._bound(region, one) for one in strategies]
        for _ in range(DRAWS):
            arn = self._draw(slabs)
            ranks = [self._rank(arn, one) for one in strategies]
            if ranks == bounds and not self._unfit(arn):
                return arn
        return None

    def _of_all(self, slabs: Sequence[Slab], strategies: Sequence[Strategy]) -> str | None:
        """Look at each host; return one of the best, or None if none fits."""
        left = [
            arn
            for order, start, end in slabs
            for _, arn in order[start:end]
            if not self._unfit(arn)
        ]
        for strategy in strategies:
            ranks = [self._rank(arn, strategy) for arn in left]
            lowest = min(ranks, default=0)
            left = [arn for arn, rank in zip(left, ranks, strict=True) if rank == lowest]
        return self._rng.choice(left) if left else None

    def _emptiest_first(self, region: Region, field: str) -> Iterator[Region]:
        """Yield the hosts by how many tasks of the group are in their bucket."""
        crowds = self._crowds[field]
        found: dict[int, list[HostIndex]] = {}
        for index in region:
            for value, part in index.parts(placement.attribute_of(field)).items():
                found.setdefault(crowds[value], []).append(part)
        for count in sorted(found):
            yield tuple(found[count])

    def _bound(self, region: Region, strategy: Strategy) -> int:
        """Return a rank by a ``spread`` strategy that no host of a region can be below."""
        if strategy.field == placement.INSTANCE_ID:
            levels = self._counts.levels
            return 0 if levels.total() < len(self._pool.hosts) else min(levels)
        crowds, name = self._crowds[strategy.field], placement.attribute_of(strategy.field)
        parts = [index.parts(name) for index in region]
        if sum(map(len, parts)) > _BUCKETS_MOST:
            return 0
        return min((crowds[value] for part in parts for value in part), default=0)

    def _rank(self, arn: str, strategy: Strategy) -> int:
        """Return how good a host is by a strategy; the lowest is best."""
        if strategy.field in self._crowds:
            return self._crowds[strategy.field][
                placement.bucket_of(self._pool.hosts[arn], strategy.field)
            ]
        room = self._room(arn)
        if strategy.kind == "spread":
            return room.group_tasks
        return room.cpu if strategy.field == "cpu" else room.memory

    def _unfit(self, arn: str) -> str:
        """Return why a host takes no further copy; empty if it does."""
        room = self._room(arn)
        return placement.unfit(room.instance, self._needs, self._constraints) or placement.refusal(
            room, self._needs, distinct=self._distinct
        )

    def _room(self, arn: str) -> HostRoom:
        return self._rooms.get(arn) or HostRoom(self._pool.hosts[arn], self._needs.group)

    def _take(self, arn: str, provider: str) -> Placed:
        room = self._rooms[arn] = self._room(arn)
        host = room.instance
        gpus = room.take(self._needs)
        self._pool.connected.put(arn, room.cpu, room.memory, host.attributes)
        for field, crowds in self._crowds.items():
            crowds[placement.bucket_of(host, field)] += 1
        return Placed(arn, gpus, provider)

    def _slabs(self, region: Region) -> list[Slab]:
        needs = self._needs
        return [index.with_room(needs.cpu_units, needs.memory_mib) for index in region]

    def _draw(self, slabs: Sequence[Slab]) -> str:
        """Return a random one of some hosts, each with the same chance."""
        at = self._rng.randrange(_size(slabs))
        for order, start, end in slabs:
            if at < end - start:
                return order[start + at][1]
            at -= end - start
        raise AssertionError("a number below the size is in a slab")


def _size(slabs: Sequence[Slab]) -> int:
    return sum(end - start for _, start, end in slabs)


def _parts(index: HostIndex) -> Iterator[tuple[str | None, HostIndex]]:
    return iter(index.parts(placement.CAPACITY_PROVIDER).items())
