"""A host that gets what changed, at any times and also twice, knows all other hosts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane import records
from agent.controlplane.fleet_network import peers
from agent.controlplane.fleet_network.members import MemberRecord, member_key
from agent.controlplane.fleet_network.peers import PeerView
from agent.controlplane.fleet_network.ranges import RangePlan
from agent.controlplane.store.contract import Event, KeyValue
from agent.model.fleet import ROUTES, FleetHost
from agent.network.fleet.known import KnownFleet

PLAN = RangePlan.parse("10.208.0.0/16", 24)
HOSTS = ("a", "b", "c", "d")


class World:
    """Hosts in a store, and a view that follows them."""

    def __init__(self) -> None:
        self.revision = 7
        self.view = PeerView(PLAN)
        self.hosts: dict[str, FleetHost] = {}

    def put(self, name: str, address: str, *, takes_part: bool = True) -> None:
        host = FleetHost(driver=ROUTES, address=address, range=PLAN.at(HOSTS.index(name)))
        self.hosts.pop(name, None)
        if takes_part:
            self.hosts[name] = host
        self.revision += 1
        value = records.encode(MemberRecord(host=host, takes_part=takes_part))
        self.view.apply(Event("put", KeyValue(member_key(name), value, 1, self.revision, 1)))

    def delete(self, name: str) -> None:
        self.hosts.pop(name, None)
        self.revision += 1
        self.view.apply(Event("delete", KeyValue(member_key(name), b"", 0, self.revision, 0)))


events = st.lists(
    st.tuples(
        st.sampled_from(HOSTS),
        st.sampled_from(["put 192.0.2.1", "put 192.0.2.2", "rest", "delete", "ask", "ask twice"]),
    ),
    max_size=60,
)


@given(events, st.integers(1, 3))
def test_a_host_that_asks_now_and_then_knows_all_others(
    happening: list[tuple[str, str]], remembered: int
) -> None:
    world = World()
    seen = dict.fromkeys(HOSTS, 0)
    known = {name: KnownFleet() for name in HOSTS}
    limit, peers.LEFT_MOST = peers.LEFT_MOST, remembered  # type: ignore[misc]
    try:
        for name, what in [*happening, *((name, "ask") for name in HOSTS)]:
            if what.startswith("put"):
                world.put(name, what.removeprefix("put "))
            elif what == "rest":
                world.put(name, "192.0.2.9", takes_part=False)
            elif what == "delete":
                world.delete(name)
            else:
                update = world.view.update(name, seen[name], world.revision)
                if update is not None:
                    for _ in range(1 + (what == "ask twice")):
                        known[name] = known[name].after(update)
                seen[name] = world.revision
                if name in world.hosts:
                    others = {n: host for n, host in world.hosts.items() if n != name}
                    assert known[name].peers == others
                    assert known[name].range == world.hosts[name].range
    finally:
        peers.LEFT_MOST = limit  # type: ignore[misc]


def test_a_host_is_told_only_what_changed() -> None:
    world = World()
    for name in HOSTS:
        world.put(name, "192.0.2.1")
    first = world.view.update("a", 0, world.revision)
    assert first is not None
    assert (first.full, [peer.id for peer in first.peers]) == (True, ["b", "c", "d"])
    assert (first.range, first.fleet_range) == ("10.208.0.0/24", "10.208.0.0/16")
    at = world.revision
    assert world.view.update("a", at, at) is None
    world.put("c", "192.0.2.8")
    world.delete("d")
    update = world.view.update("a", at, world.revision)
    assert update is not None
    assert (update.full, [peer.id for peer in update.peers], update.gone) == (False, ["c"], ["d"])


def test_a_host_with_a_range_of_an_earlier_plan_is_nobody_s_peer() -> None:
    world = World()
    world.put("a", "192.0.2.1")
    host = FleetHost(driver=ROUTES, address="192.0.2.2", range="10.9.0.0/24")
    value = records.encode(MemberRecord(host=host))
    world.view.apply(Event("put", KeyValue(member_key("b"), value, 1, 9, 1)))
    assert world.view.update("b", 0, 9) is None
    found = world.view.update("a", 0, 9)
    assert found is not None
    assert not found.peers
