"""The names derived from addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network import addresses

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
