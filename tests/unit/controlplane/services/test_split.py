"""Random histories of a service with a capacity provider strategy: what runs in the end follows it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.services import split, wording
from agent.controlplane.services.observed import Wanted
from agent.controlplane.services.record import COMPLETED
from agent.controlplane.tasks.capacity import Capacity, Share, spread
from agent.controlplane.tasks.changes import FAILED_TO_START
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

CALM = (
    *("scale", "scale", "scale", "force", "run", "run all", "run all", "end stopping"),
    *("second", "minute", "hour"),
)
ACTIONS = (
    *CALM,
    *("exit", "fail to start", "unhealthy", "healthy", "lose", "find", "drain", "undrain"),
    "protect",
)
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
    assert world.record.primary.rollout_state == COMPLETED
    # Without room for one task more, a task that ends may leave the number right and the split off.
    has_room = world.record.most_running > world.record.desired_count
    if has_room or all(action in CALM for action, _ in history):
        assert split_of(world) == Counter(spread(shares, world.record.desired_count))


def split_of(world: Divided) -> Counter[str]:
    return Counter(task.capacity_provider for task in world.wanted())


EVEN = (Share("a", 1), Share("b", 1))


def off_balance(least: int, most: int) -> Divided:
    """A service of two tasks, one in each of a and b, whose last task of b has ended while a had one too many."""
    first = deployment(1, launch_type="", capacity_provider_strategy=items(EVEN))
    record = service(2, least=least, most=most, deployments=[first])
    world = Divided(record, EVEN, check=False)
    world.steady()
    (of_b,) = world.wanted(capacity_provider="b")
    world.change(of_b, capacity_provider="a")
    assert split_of(world) == {"a": 2}
    return world


def test_a_task_is_exchanged_where_the_number_is_right_and_the_split_is_not() -> None:
    world = off_balance(100, 200)
    world.settle()
    assert split_of(world) == {"a": 2, "b": 1}, "none is stopped before the new one is healthy"
    assert wording.STEADY not in world.record.notices
    world.run()
    world.pass_time(41)
    assert split_of(world) == {"a": 1, "b": 1}
    started = world.started
    world.pass_time(7200)
    assert (world.started, split_of(world)) == (started, {"a": 1, "b": 1})


def test_a_provider_without_luck_neither_takes_a_task_nor_starts_one_after_another() -> None:
    world = off_balance(100, 200)
    started = world.started
    for _ in range(20):
        world.settle()
        world.end(*world.wanted(capacity_provider="b"), code=FAILED_TO_START)
        world.pass_time(60)
    assert split_of(world)["a"] == 2
    assert world.started - started < 10, "starts are slowed down"


def test_without_room_for_one_more_the_split_stays_off() -> None:
    world = off_balance(50, 100)
    started = world.started
    world.pass_time(7200)
    assert (world.started, split_of(world)) == (started, {"a": 2})
    assert wording.BLOCKED not in world.record.notices


def test_a_service_without_a_strategy_has_no_split() -> None:
    assert split.of_new(Capacity(), 4, (), 4) is None
    assert split.surplus(deployment(1), 4, ()) is None
    assert split.missing(deployment(1), 4, ()) == 0


def test_capacity_providers_take_turns_so_that_one_without_room_keeps_no_other_back() -> None:
    wanted = Capacity(strategy=(Share("a", 1), Share("b", 1)))
    assert split.of_new(wanted, 4, (), 4) == ["a", "b", "a", "b"]
