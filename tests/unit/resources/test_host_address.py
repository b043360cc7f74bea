"""Where a host says that it is reached."""

from __future__ import annotations

import ipaddress

import pytest

from agent.config.addresses import HostPort
from agent.controlplane import host_ports
from agent.controlplane.monitoring import targets
from agent.resources import host_address


@pytest.mark.parametrize(
    ("host", "listens", "metrics"),
    [
        ("192.0.2.7", "0.0.0.0", "192.0.2.7:51680"),
        ("2001:db8::7", "::", "[2001:db8::7]:51680"),
        ("192.0.2.7", "10.0.0.7", "10.0.0.7:51680"),
        ("192.0.2.7", "127.0.0.1", None),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:51680"),
        ("192.0.2.7", "", None),
        ("", "0.0.0.0", None),
    ],
)
def test_what_is_told(host: str, listens: str, metrics: str | None) -> None:
    place = HostPort(listens, 51680) if listens else None
    told = host_address.attributes(host, place)
    assert told.get(host_address.METRICS_ADDRESS) == metrics
    assert told.get(host_address.HOST_ADDRESS, "") == host


def test_the_routing_table_gives_an_address_or_none() -> None:
    found = host_address.find()
    assert not found or not ipaddress.ip_address(found).is_unspecified


def test_control_knows_the_same_attributes() -> None:
    assert host_address.HOST_ADDRESS == host_ports.HOST_ADDRESS
    assert host_address.METRICS_ADDRESS == targets.METRICS_ADDRESS


def test_a_host_in_a_url_is_this_one_by_name_or_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "one.example")
    own = ("localhost", "One.Example", "one", "one.example.", "127.0.0.1", "::1", "127.3.2.1")
    others = ("", "two.example", "one.elsewhere", "oneself", "192.0.2.77", "2001:db8::7")
    assert [host for host in own if not host_address.is_own(host)] == []
    assert [host for host in others if host_address.is_own(host)] == []


@pytest.mark.parametrize(
    ("configured", "told"), [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", ""), ("here", "")]
)
def test_only_an_ipv4_address_is_one(configured: str, told: str) -> None:
    assert host_address.ipv4(configured) == told
