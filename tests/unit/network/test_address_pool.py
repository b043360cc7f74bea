"""Pools of addresses: of one family, of both, and addresses that tasks ask for."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.errors import ConfigError, NetworkFailure
from agent.network.address_pool import AddressPool

ipv4s = st.ip_addresses(v=4).map(str)
DUAL = ("10.9.0.0/28", "fd00:9::40/124")
ALONE = ("", "fd00:9::/64")


@pytest.mark.parametrize(
    "cidr", ["", "10.0.0.1/20", "10.0.0.0/30", "10.0.0.0/33", "fd00::/64", "x"]
)
def test_bad_pools_name_the_setting(cidr: str) -> None:
    with pytest.raises(ConfigError, match="ECS_TASK_POOL_CIDR"):
        AddressPool(cidr, quarantine_s=1)


@pytest.mark.parametrize(
    ("cidr", "said"),
    [
        ("10.0.0.0/24", "is not an IPv6 network"),
        ("fd00::1/64", "has host bits set"),
        ("fd00::/126", "between /16 and /125"),
        ("fd00::/8", "between /16 and /125"),
        ("fe80::/64", "is not for hosts"),
        ("ff05::/64", "is not for hosts"),
        ("::/64", "is not for hosts"),
        ("::ffff:0:0/96", "is not for hosts"),
        (
            "fd00::/121",
            r"has fewer addresses than ECS_TASK_POOL_CIDR='10.9.0.0/24'.*/120 or shorter",
        ),
    ],
)
def test_bad_pools_of_ipv6_name_the_setting(cidr: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"ECS_TASK_POOL_IPV6_CIDR.*{said}"):
        AddressPool("10.9.0.0/24", ipv6_cidr=cidr, quarantine_s=1)


def test_tasks_without_any_address_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"ECS_TASK_POOL_CIDR=none .* ECS_TASK_POOL_IPV6_CIDR"):
        AddressPool("", quarantine_s=1)


def test_both_addresses_of_a_task_have_the_same_place() -> None:
    pool = AddressPool("10.9.0.0/24", ipv6_cidr="2001:db8::/64", quarantine_s=1)
    assert (pool.gateway, pool.ipv6_gateway) == ("10.9.0.1", "2001:db8::1")
    assert pool.ipv6_of("10.9.0.200") == "2001:db8::c8"
    assert pool.ipv6_of("10.8.0.200") == ""
    assert AddressPool("10.9.0.0/24", quarantine_s=1).ipv6_of("10.9.0.200") == ""


def test_ipv6_alone_has_addresses_for_the_way_to_the_agent() -> None:
    pool = AddressPool("", ipv6_cidr="fd00:9::/64", quarantine_s=1)
    assert pool.is_ipv6_only
    assert pool.network == IPv4Network("169.254.172.0/22")
    assert (pool.take(0), pool.ipv6_of("169.254.172.2")) == ("169.254.172.2", "fd00:9::2")
    narrow = AddressPool("", ipv6_cidr="fd00:9::/125", quarantine_s=1)
    assert narrow.network == IPv4Network("169.254.172.0/29")
    taken = [narrow.ipv6_of(narrow.take(0)) for _ in range(5)]
    assert taken == [f"fd00:9::{n}" for n in range(2, 7)]
    with pytest.raises(
        NetworkFailure, match="no free address in ECS_TASK_POOL_IPV6_CIDR=fd00:9::/125: 5 in use"
    ):
        narrow.take(0)


@given(
    bits=st.integers(3, 24), more=st.integers(0, 60), start=st.integers(0, 2**32 - 1),
    prefix=st.integers(0, 2**64 - 1), place=st.integers(0, 2**24 - 1),
)  # fmt: skip
def test_one_address_tells_the_other(
    bits: int, more: int, start: int, prefix: int, place: int
) -> None:
    ipv4 = IPv4Network((start, 32 - bits), strict=False)
    ipv6 = IPv6Network(((0xFD00 << 112) | prefix, 128 - min(bits + more, 112)), strict=False)
    pool = AddressPool(str(ipv4), ipv6_cidr=str(ipv6), quarantine_s=1)
    of_task = str(ipv4.network_address + 2 + place % (ipv4.num_addresses - 3))
    by_ipv6 = pool.ipv6_of(of_task)
    assert IPv6Address(by_ipv6) in ipv6
    assert by_ipv6 != pool.ipv6_gateway
    assert pool.asked_for(of_task) == pool.asked_for(by_ipv6) == of_task
    assert pool.asked_for(IPv6Address(by_ipv6).exploded) == of_task


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.9.0.16", "is not in ECS_TASK_POOL_CIDR=10.9.0.0/28 and ECS_TASK_POOL_IPV6_CIDR=fd00:9::40"),
        ("fd00:9::50", "is not in"),
        ("fd00:9::3f", "is not in"),
        ("10.9.0.0", "no task can have"),
        ("10.9.0.1", "no task can have"),
        ("10.9.0.15", "no task can have"),
        ("fd00:9::41", "no task can have"),
        ("10.9.0", "is not an IP address"),
        ("fd00::x", "is not an IP address"),
        ("web", "is not an IP address"),
        ("", "is not an IP address"),
    ],
)  # fmt: skip
def test_what_no_task_can_have_is_refused_by_name(address: str, said: str) -> None:
    pool = AddressPool(*DUAL[:1], ipv6_cidr=DUAL[1], quarantine_s=1)
    with pytest.raises(NetworkFailure) as failure:
        pool.asked_for(address)
    assert said in str(failure.value)
    assert f"the task asks for the address {address}" in str(failure.value)


@pytest.mark.parametrize("reserved", ["10.9.0.8/29", "fd00:9::48/125"])
def test_reserved_addresses_are_only_for_those_who_ask(reserved: str) -> None:
    pool = AddressPool(DUAL[0], ipv6_cidr=DUAL[1], reserved_cidr=reserved, quarantine_s=1)
    assert [pool.take(0) for _ in range(6)] == [f"10.9.0.{n}" for n in range(2, 8)]
    with pytest.raises(NetworkFailure, match="6 in use, 8 reserved; use a larger network"):
        pool.take(0)
    assert pool.asked_for("10.9.0.9") == "10.9.0.9"
    pool.hold("10.9.0.9")
    assert pool.is_held("10.9.0.9")
    assert [pool.is_reserved(f"10.9.0.{n}") for n in (7, 8, 15)] == [False, True, True]


@pytest.mark.parametrize(
    ("reserved", "said"),
    [
        (
            "10.9.1.0/28",
            "is not part of ECS_TASK_POOL_CIDR=10.9.0.0/28 and ECS_TASK_POOL_IPV6_CIDR",
        ),
        ("fd00:8::/64", "is not part of"),
        ("10.9.0.0/28", "leaves no address to tasks that ask for none"),
        ("10.9.0.1/28", "is not a network"),
    ],
)
def test_what_cannot_be_reserved_is_refused_by_name(reserved: str, said: str) -> None:
    with pytest.raises(ConfigError) as failure:
        AddressPool(DUAL[0], ipv6_cidr=DUAL[1], reserved_cidr=reserved, quarantine_s=1)
    assert f"ECS_TASK_POOL_RESERVED_CIDR={reserved}" in str(failure.value)
    assert said in str(failure.value)


def test_the_way_to_the_agent_is_not_to_be_asked_for() -> None:
    pool = AddressPool(ALONE[0], ipv6_cidr=ALONE[1], quarantine_s=1)
    with pytest.raises(NetworkFailure, match="not in ECS_TASK_POOL_IPV6_CIDR=fd00:9::/64"):
        pool.asked_for("169.254.172.9")
    with pytest.raises(NetworkFailure, match="not in"):
        pool.asked_for("fd00:9::1:2")  # in the network, but no sandbox could have it
    assert pool.asked_for("fd00:9::9") == "169.254.172.9"


def test_a_pool_hands_out_all_but_three_addresses_in_order() -> None:
    pool = AddressPool("10.9.0.0/29", quarantine_s=1)
    assert pool.gateway == "10.9.0.1"
    assert [pool.take(0) for _ in range(5)] == [f"10.9.0.{n}" for n in range(2, 7)]
    with pytest.raises(NetworkFailure, match=r"ECS_TASK_POOL_CIDR=10\.9\.0\.0/29: 5 in use; use a"):
        pool.take(0)


def test_exhaustion_says_when_the_next_address_is_free() -> None:
    pool = AddressPool("10.9.0.0/29", quarantine_s=60)
    taken = [pool.take(0) for _ in range(5)]
    pool.give_back(taken[3], now=10)
    with pytest.raises(NetworkFailure, match="4 in use, 1 in quarantine, the next is free in 40 s"):
        pool.take(30)
    assert pool.take(70) == taken[3]


def test_the_cursor_survives_a_restart() -> None:
    before = AddressPool("10.9.0.0/24", quarantine_s=60)
    before.take(0)
    before.take(0)
    after = AddressPool("10.9.0.0/24", quarantine_s=60, cursor=before.cursor)
    assert after.take(0) == "10.9.0.4"


@given(st.text(max_size=20) | ipv4s)
def test_any_cursor_is_accepted(cursor: str) -> None:
    pool = AddressPool("10.9.0.0/28", quarantine_s=60, cursor=cursor)
    assert pool.take(0) in pool


class PoolMachine(RuleBasedStateMachine):
    """Takes and gives back at random while time goes on."""

    CIDR, IPV6_CIDR = DUAL
    QUARANTINE_S = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.pool = AddressPool(self.CIDR, ipv6_cidr=self.IPV6_CIDR, quarantine_s=self.QUARANTINE_S)
        self.now = 0.0
        self.mine: set[str] = set()
        self.resting: dict[str, float] = {}

    @rule(seconds=st.floats(0, 40))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds

    def usable(self) -> set[str]:
        network = IPv4Network(self.CIDR)
        hosts = {str(host) for host in network.hosts()} - {self.pool.gateway}
        asleep = {ipv4 for ipv4, until in self.resting.items() if until > self.now}
        return hosts - self.mine - asleep

    @rule()
    def take(self) -> None:
        usable = self.usable()
        if not usable:
            with pytest.raises(NetworkFailure):
                self.pool.take(self.now)
            return
        ipv4 = self.pool.take(self.now)
        assert ipv4 in usable
        self.mine.add(ipv4)
        self.resting.pop(ipv4, None)

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        ipv4 = data.draw(st.sampled_from(sorted(self.mine)))
        self.mine.remove(ipv4)
        self.resting[ipv4] = self.now + self.QUARANTINE_S
        self.pool.give_back(ipv4, self.now)
        self.pool.give_back(ipv4, self.now)

    @precondition(lambda self: self.usable())
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        ipv4 = data.draw(st.sampled_from(sorted(self.usable())))
        self.pool.hold(ipv4)
        self.mine.add(ipv4)
        self.resting.pop(ipv4, None)

    @precondition(lambda self: self.resting)
    @rule(data=st.data())
    def ask_for_one_at_rest(self, data: st.DataObject) -> None:
        ipv4 = data.draw(st.sampled_from(sorted(self.resting)))
        asked = self.pool.asked_for(self.pool.ipv6_of(ipv4))
        assert asked == ipv4
        if not self.pool.is_held(asked):
            self.pool.hold(asked)
            self.mine.add(asked)
            self.resting.pop(asked)

    @invariant()
    def no_address_is_of_two_tasks(self) -> None:
        by_ipv6 = {self.pool.ipv6_of(ipv4) for ipv4 in self.mine}
        assert len(by_ipv6) == len(self.mine)
        assert all(IPv6Address(each) in IPv6Network(self.IPV6_CIDR) for each in by_ipv6)

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.held == len(self.mine)
        assert IPv4Address(self.pool.cursor) in self.pool.network


TestPoolMachine = PoolMachine.TestCase
