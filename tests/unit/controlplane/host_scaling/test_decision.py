"""How many hosts there should be, and which go: the arithmetic, and random loads on a simulated group."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.host_scaling.decision import (
    AGAIN_S,
    LOST_S,
    LOW_S,
    Decision,
    Limits,
    SeenHost,
    decide,
    reservation,
)
from agent.controlplane.host_scaling.record import DRAINING, ENDING, ScalingRecord

NOW = 1_700_000_000.0
TEN = Limits(0, 10)


def hosts(*tasks: int, **fields: object) -> list[SeenHost]:
    """Return connected hosts with so many tasks, none of them of daemons."""
    return [
        SeenHost(f"h{number}", count, count, **fields)  # type: ignore[arg-type]
        for number, count in enumerate(tasks)
    ]


@pytest.mark.parametrize(
    ("needed", "there", "percent"), [(0, 0, 100), (1, 0, 200), (0, 2, 0), (3, 4, 75), (6, 4, 150)]
)
def test_the_reservation_has_the_special_cases_of_amazon_ecs(
    needed: int, there: int, percent: float
) -> None:
    assert reservation(needed, there) == percent


def test_the_first_decision_takes_what_is_there_within_the_bounds() -> None:
    assert decide(ScalingRecord(), TEN, hosts(1, 1), 0, NOW).record.desired == 2
    assert decide(ScalingRecord(), TEN._replace(least=3), hosts(1, 1), 0, NOW).record.desired == 3
    few = decide(ScalingRecord(), TEN._replace(most=1), hosts(1, 1), 0, NOW)
    # Those that are there have tasks, so the program is not told of fewer.
    assert (few.record.desired, few.order.hosts, few.drain) == (1, 2, ())


@pytest.mark.parametrize(
    ("limits", "extra", "desired"),
    [
        (TEN, 3, 5),
        (TEN, 30, 10),
        (TEN._replace(target=50), 1, 6),
        (TEN._replace(smallest_step=4), 1, 6),
        (TEN._replace(largest_step=2), 8, 4),
    ],
)
def test_more_are_wanted_at_once_within_step_and_bounds(
    limits: Limits, extra: int, desired: int
) -> None:
    decision = decide(ScalingRecord(desired=2), limits, hosts(1, 1), extra, NOW)
    assert decision.record.desired == desired
    assert decision.order.hosts == desired
    assert not decision.order.is_met


def test_no_more_than_the_largest_step_within_a_warm_up() -> None:
    limits = TEN._replace(largest_step=2)
    first = decide(ScalingRecord(desired=2), limits, hosts(1, 1), 8, NOW)
    assert first.wake_at == NOW + 300
    soon = decide(first.record, limits, hosts(1, 1), 8, NOW + 299)
    assert soon.record == first.record
    later = decide(first.record, limits, hosts(1, 1, 1, 1), 6, NOW + 300)
    assert later.record.desired == 6


def test_hosts_that_are_still_to_come_are_not_wanted_twice() -> None:
    first = decide(ScalingRecord(desired=0), TEN, [], 3, NOW)
    one = decide(first.record, TEN, hosts(1), 2, NOW + 60)
    assert first.record.desired == one.record.desired == 3


def test_fewer_only_after_a_quarter_of_an_hour_and_only_empty_ones() -> None:
    seen = hosts(1, 0, 2, 0, 0)
    first = decide(ScalingRecord(desired=5), TEN, seen, 0, NOW)
    assert (first.drain, first.wake_at) == ((), NOW + LOW_S)
    early = decide(first.record, TEN, seen, 0, NOW + LOW_S - 1)
    assert early.record.low_since == NOW
    assert not early.drain
    due = decide(first.record, TEN, seen, 0, NOW + LOW_S)
    assert set(due.drain) < {"h1", "h3", "h4"}
    assert len(due.drain) == 2, "half of five at most"
    assert due.order.remove == due.drain
    assert due.wake_at == NOW + LOW_S + AGAIN_S
    left = [host for host in seen if host.id not in due.drain]
    last = decide(due.record, TEN, left, 0, NOW + LOW_S + AGAIN_S)
    assert len(last.drain) == 1
    assert last.record.desired == 2
    assert last.record.low_since == 0


def test_load_that_comes_back_ends_the_wait() -> None:
    low = decide(ScalingRecord(desired=2), TEN, hosts(1, 0), 0, NOW)
    back = decide(low.record, TEN, hosts(1, 1), 0, NOW + LOW_S - 1)
    assert back.record.low_since == 0
    again = decide(back.record, TEN, hosts(1, 0), 0, NOW + LOW_S)
    assert not again.drain


def test_what_has_not_come_is_cancelled_before_a_host_goes() -> None:
    known = ScalingRecord(desired=4, low_since=NOW - LOW_S)
    decision = decide(known, TEN, hosts(1, 0), 0, NOW)
    assert (decision.record.desired, decision.drain) == (2, ())
    assert decision.order.hosts == 2


def test_no_host_goes_before_its_warm_up_is_over() -> None:
    known = ScalingRecord(desired=2, low_since=NOW - LOW_S)
    seen = hosts(1, 0, registered_at=NOW - 299)
    decision = decide(known, TEN, seen, 0, NOW)
    assert (decision.drain, decision.wake_at) == ((), NOW + 1)
    assert decide(decision.record, TEN, seen, 0, NOW + 1).drain == ("h1",)


def test_tasks_of_daemons_keep_no_host_but_are_waited_for() -> None:
    known = ScalingRecord(desired=1, low_since=NOW - LOW_S)
    daemon = [SeenHost("h", tasks=1, others=0)]
    drained = decide(known, TEN, daemon, 0, NOW)
    assert drained.record.removing == {"h": DRAINING}
    assert drained.order.remove == ()
    empty = decide(drained.record, TEN, [SeenHost("h", is_active=False)], 0, NOW + 1)
    assert empty.order.remove == ("h",)
    at_once = decide(known, TEN._replace(drains=False), daemon, 0, NOW)
    assert at_once.order.remove == ("h",)
    gone = decide(empty.record, TEN, [], 0, NOW + 2)
    assert gone.record.removing == {}
    assert gone.order.is_met


def test_a_host_that_is_cut_off_is_given_up_when_it_has_no_tasks() -> None:
    lost = [SeenHost("h", lost_since=NOW), SeenHost("busy", 1, 1, lost_since=NOW)]
    early = decide(ScalingRecord(desired=2), TEN, lost, 1, NOW + LOST_S - 1)
    assert (early.there, early.drain, early.wake_at) == (1, (), NOW + LOST_S)
    late = decide(early.record, TEN, lost, 1, NOW + LOST_S)
    assert late.drain == late.order.remove == ("h",)
    assert late.record.removing == {"h": ENDING}
    assert late.order.hosts == 2, "another one comes in its place"
    much_later = decide(late.record, TEN, [lost[1]], 1, NOW + 10 * LOW_S)
    assert much_later.drain == (), "nobody knows whether its tasks run"


def test_what_an_operator_drains_is_replaced_and_left_to_the_operator() -> None:
    seen = [SeenHost("h", 1, 1), SeenHost("drained", 0, 0, is_active=False)]
    decision = decide(ScalingRecord(desired=2), TEN, seen, 1, NOW)
    assert (decision.there, decision.order.hosts, decision.order.remove) == (1, 3, ())


class Group:
    """Hosts of a program that does as it is told, after a time, and tasks that fill them."""

    def __init__(self, limits: Limits, per_host: int) -> None:
        self.limits = limits
        self.per_host = per_host
        self.now = NOW
        self.record = ScalingRecord()
        self.hosts: dict[str, SeenHost] = {}
        self.waiting = 0
        self.booting: list[float] = []
        self.count = 0

    def load(self, tasks: int) -> None:
        """Have so many tasks in all: new ones wait, superfluous ones end, the newest first."""
        excess = self.waiting + sum(host.others for host in self.hosts.values()) - tasks
        self.waiting = max(0, self.waiting - max(0, excess)) + max(0, -excess)
        left = self.waiting + sum(host.others for host in self.hosts.values()) - tasks
        for host in reversed(list(self.hosts.values())):
            gone = min(left, host.others)
            left -= gone
            self._set(host, host.others - gone)

    def _set(self, host: SeenHost, count: int) -> None:
        self.hosts[host.id] = host._replace(tasks=count, others=count)

    def turn(self, delay_s: float) -> Decision:
        """Let hosts come, tasks be placed, decide, and do what is decided."""
        for at in [at for at in self.booting if at <= self.now]:
            self.booting.remove(at)
            self.count += 1
            name = f"h{self.count}"
            self.hosts[name] = SeenHost(name, registered_at=self.now)
        for host in list(self.hosts.values()):
            if host.is_active and self.waiting:
                more = min(self.waiting, self.per_host - host.others)
                self.waiting -= more
                self._set(host, host.others + more)
        extra = -(-self.waiting // self.per_host)
        decision = decide(self.record, self.limits, self.hosts.values(), extra, self.now)
        for name in decision.drain:
            assert not self.hosts[name].others, "a host with tasks is removed"
            self.hosts[name] = self.hosts[name]._replace(is_active=False)
        assert self.limits.least <= decision.record.desired <= self.limits.most
        self.record = replace(decision.record)
        for name in decision.order.remove:
            assert not self.hosts[name].others
            del self.hosts[name]
        missing = decision.order.hosts - len(self.hosts) - len(self.booting)
        if missing > 0:
            self.booting += [self.now + delay_s] * missing
        elif missing < 0:
            del self.booting[missing:]
        return decision

    def run(self, seconds: float, delay_s: float) -> None:
        """Let time pass, with a turn whenever something is due."""
        end = self.now + seconds
        while True:
            decision = self.turn(delay_s)
            moments = [*self.booting, *([decision.wake_at] if decision.wake_at else [])]
            if decision.drain:
                moments.append(self.now)
            self.now = max(self.now, min([*moments, end]))
            if self.now >= end:
                return


@given(
    least=st.integers(0, 3),
    span=st.integers(0, 20),
    target=st.integers(20, 100),
    smallest=st.integers(1, 4),
    largest=st.integers(4, 30),
    per_host=st.integers(1, 4),
    loads=st.lists(st.tuples(st.integers(0, 60), st.floats(1, 4000)), min_size=1, max_size=8),
    delay_s=st.floats(1, 600),
)
def test_any_history_keeps_the_bounds_and_settles(
    *,
    least: int,
    span: int,
    target: int,
    smallest: int,
    largest: int,
    per_host: int,
    loads: list[tuple[int, float]],
    delay_s: float,
) -> None:
    limits = Limits(least, least + span, target, smallest, largest)
    group = Group(limits, per_host)
    for tasks, seconds in loads:
        group.load(tasks)
        group.run(seconds, delay_s)
    # With a fixed load, it comes to rest where the load says, and stays there.
    group.run(30 * 3600, delay_s)
    busy = sum(host.others > 0 for host in group.hosts.values())
    needed = busy + -(-group.waiting // per_host)
    wanted = max(limits.least, min(-(-needed * 100 // target), limits.most))
    assert group.record.desired == max(wanted, 0)
    assert len(group.hosts) == max(wanted, busy)
    assert not group.booting
    before = set(group.hosts)
    for _ in range(20):
        group.now += 3600
        assert not group.turn(delay_s).drain
    assert set(group.hosts) == before
