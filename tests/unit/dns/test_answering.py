"""Where questions for other names are passed on to."""

from __future__ import annotations

from agent.dns.answering import Servers
from agent.network.names.resolvers import Resolvers
from agent.network.settings import NetworkSettings

HOST = Resolvers(servers=("192.0.2.1", "192.0.2.2"))
TASK, CONTAINER = "10.207.0.9", "172.17.0.2"


def asked(settings: NetworkSettings, peer: str) -> list[str]:
    """Return the addresses that are asked for a container."""
    found = Servers.of(settings).on(HOST).of_peer(peer)
    assert {port for _, port in found} <= {53}
    return [address for address, _ in found]


def test_tasks_use_the_servers_of_the_settings_and_other_containers_those_of_the_host() -> None:
    settings = NetworkSettings(owner="o", dns_servers=("192.0.2.9", "192.0.2.1", "fd00::1"))
    assert asked(settings, TASK) == ["192.0.2.9", "192.0.2.1"]
    assert asked(settings, CONTAINER) == ["192.0.2.1", "192.0.2.2"]
    # Both ask servers of their own: questions to each of these are led to the agent.
    assert Servers.of(settings).on(HOST).all == ("192.0.2.9", "192.0.2.1", "192.0.2.2")


def test_without_a_setting_all_use_the_servers_of_the_host() -> None:
    for settings in (
        NetworkSettings(owner="o"),
        NetworkSettings(owner="o", pool_cidr="", ipv6_cidr="fd00::/64"),
        NetworkSettings(owner="o", dns_servers=("fd00::1",)),
    ):
        assert asked(settings, TASK) == asked(settings, CONTAINER) == list(HOST.servers)
