"""The address pool and the names derived from addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.errors import ConfigError, NetworkFailure
from agent.network import addresses
from agent.network.addresses import AddressPool

ipv4s = st.ip_addresses(v=4).map(str)


def test_names_of_an_address() -> None:
    assert addresses.mac_of("10.207.0.5") == "0a:58:0a:cf:00:05"
    assert addresses.hostname_of("10.207.0.5") == "ip-10-207-0-5"
    assert addresses.container_name_of("10.207.0.5") == "ecs-sandbox-10-207-0-5"
    assert addresses.link_name_of("10.207.0.5") == "ecs0acf0005"


@given(ipv4s)
def test_a_link_name_tells_its_address_and_fits_the_kernel(ipv4: str) -> None:
    name = addresses.link_name_of(ipv4)
    assert len(name) <= 15
    assert addresses.address_of_link(name) == ipv4


@given(st.text(max_size=16))
def test_foreign_link_names_have_no_address(name: str) -> None:
    address = addresses.address_of_link(name)
    assert address is None or addresses.link_name_of(address) == name


@pytest.mark.parametrize(
    "name", ["ecs0ACF0005", "ecs+acf0005", "ecs acf0005", "ecs0acf005", "ecs-br0", "ecs0x0f0005"]
)
def test_spellings_that_are_not_ours(name: str) -> None:
    assert addresses.address_of_link(name) is None


@pytest.mark.parametrize(
    "cidr", ["", "10.0.0.1/20", "10.0.0.0/30", "10.0.0.0/33", "fd00::/64", "x"]
)
def test_bad_pools_name_the_setting(cidr: str) -> None:
    with pytest.raises(ConfigError, match="ECS_TASK_POOL_CIDR"):
        AddressPool(cidr, quarantine_s=1)


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

    CIDR = "10.9.0.0/28"
    QUARANTINE_S = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.pool = AddressPool(self.CIDR, quarantine_s=self.QUARANTINE_S)
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

    @invariant()
    def counts_agree(self) -> None:
        assert self.pool.held == len(self.mine)
        assert IPv4Address(self.pool.cursor) in self.pool.network


TestPoolMachine = PoolMachine.TestCase
