"""Random histories of a service with a capacity provider strategy: what runs in the end follows it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.services import split
from agent.controlplane.services.observed import Wanted
from agent.controlplane.services.record import COMPLETED
from agent.controlplane.tasks.capacity import Capacity, Share, spread
from tests.unit.controlplane.services.conftest import deployment, service
from tests.unit.controlplane.services.test_histories import (
    EXAMPLES,
    PERCENTAGES,
    Watched,
    converge,
)

if TYPE_CHECKING:
    from agent.controlplane.services.plan import Plan
    from agent.controlplane.services.record import DeploymentRecord, ServiceRecord

ACTIONS = (
    *("scale", "scale", "scale", "force", "run", "run all", "run all", "end stopping"),
    *("second", "minute", "hour"),
)
"""No failures: a task that ends while another provider has one too many leaves the number right, and the split not."""
SHARES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=3).map(
    lambda drawn: tuple(
        Share(name, weight, 2 if has_base and number == 0 else 0)
        for number, (name, (weight, has_base)) in enumerate(zip("abc", drawn, strict=False))
    )
)


def items(shares: tuple[Share, ...]) -> list[dict[str, str | int]]:
    return [
        {"capacityProvider": one.provider, "weight": one.weight, "base": one.base} for one in shares
    ]


class Divided(Watched):
    """Gives each new task the capacity provider that the scheduler wants for it."""

    def __init__(self, record: ServiceRecord, shares: tuple[Share, ...], *, check: bool) -> None:
        super().__init__(record, check=check)
        self.shares = shares

    def launch(self, plan: Plan) -> None:
        known = set(self.tasks)
        good = Wanted.of(self.record, self.seen, self.now).good
        wanted = Capacity(strategy=self.shares)
        names = split.of_new(wanted, self.record.desired_count, good, plan.start)
        assert names is not None
        assert len(names) == plan.start
        super().launch(plan)
        new = [task for name, task in self.tasks.items() if name not in known]
        for task, name in zip(new, names, strict=False):
            self.change(task, capacity_provider=name)

    def update(self, number: int, **fields: object) -> None:
        super().update(number, **fields)
        first, *others = self.record.deployments
        self.record = replace(self.record, deployments=[self.divided(first), *others])

    def divided(self, one: DeploymentRecord) -> DeploymentRecord:
        return replace(one, launch_type="", capacity_provider_strategy=items(self.shares))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shares=SHARES.filter(lambda found: len(found) == 1 or any(one.weight for one in found)),
    desired=st.integers(0, 6),
    percentages=st.sampled_from(PERCENTAGES),
    check=st.booleans(),
    history=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20)), max_size=30),
)
def test_every_history_ends_with_the_split_of_the_strategy(
    shares: tuple[Share, ...],
    desired: int,
    percentages: tuple[int, int],
    check: bool,
    history: list[tuple[str, int]],
) -> None:
    least, most = percentages
    first = deployment(1, launch_type="", capacity_provider_strategy=items(shares))
    record = service(desired, least=least, most=most, deployments=[first])
    world = Divided(record, shares, check=check)
    world.settle()
    for action, choice in history:
        world.do(action, choice)
        world.settle()
    converge(world)
    if world.record.primary.rollout_state == COMPLETED and "blocked" not in world.record.notices:
        counted = Counter(task.capacity_provider for task in world.wanted())
        assert counted == Counter(spread(shares, world.record.desired_count))


def test_a_service_without_a_strategy_has_no_split() -> None:
    assert split.of_new(Capacity(), 4, (), 4) is None
    assert split.surplus(deployment(1), 4, ()) is None


def test_what_has_no_room_keeps_no_other_back() -> None:
    wanted = Capacity(strategy=(Share("a", 1), Share("b", 1)))
    assert split.of_new(wanted, 4, (), 4) == ["a", "b", "a", "b"]
