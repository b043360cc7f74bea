"""The interface of a task as Amazon ECS orders it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import PayloadError
from agent.model.eni import TaskEni, read
from tests.backend.messages import interface

TRUNK = "06:00:00:00:00:01"
VLAN = {"vlanId": "12", "trunkInterfaceMacAddress": TRUNK.upper()}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


def test_an_interface_is_read_with_its_primary_address_first() -> None:
    told = interface(
        "0A:1B:2C:3D:4E:5F",
        ipv4Addresses=[
            {"primary": False, "privateAddress": "10.7.0.6"},
            {"primary": True, "privateAddress": "10.7.0.5"},
        ],
        ipv6Addresses=[{"address": "2001:DB8::05"}],
    )
    eni = read([told])
    assert eni.mac == "0a:1b:2c:3d:4e:5f"
    assert eni.ipv4 == ("10.7.0.5", "10.7.0.6")
    assert (eni.ipv4_prefix_len, eni.ipv4_gateway) == (24, "10.7.0.1")
    assert (eni.ipv6, eni.ipv6_gateway) == (("2001:db8::5",), "")
    assert (eni.dns_servers, eni.dns_search) == (("10.7.0.2",), ("eu.internal",))
    assert not eni.is_branch
    assert msgspec.json.decode(msgspec.json.encode(eni), type=TaskEni) == eni


def test_a_branch_interface_has_its_vlan_and_trunk() -> None:
    eni = read([interface(interfaceAssociationProtocol="vlan", interfaceVlanProperties=VLAN)])
    assert (eni.vlan_id, eni.trunk_mac, eni.is_branch) == (12, TRUNK, True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"macAddress": "06:00"}, "macAddress '06:00' is not a MAC address"),
        ({"macAddress": 6}, "macAddress"),
        ({"ipv4Addresses": []}, "the interface has no address"),
        ({"ipv4Addresses": [{"privateAddress": "10.7.0.500"}]}, "10.7.0.500"),
        ({"subnetGatewayIpv4Address": "router/24"}, "router"),
        ({"ipv4Addresses": [], "ipv6Addresses": [{"address": "::5"}]}, "subnetGatewayIpv6Address"),
        ({"interfaceAssociationProtocol": "tunnel"}, "'tunnel' is not supported"),
        ({"interfaceAssociationProtocol": "vlan"}, "'vlan' is not supported, or lacks"),
        (
            {
                "interfaceAssociationProtocol": "vlan",
                "interfaceVlanProperties": VLAN | {"vlanId": "4095"},
            },
            "vlanId '4095' is not a number from 1 to 4094",
        ),
    ],
)
def test_what_cannot_be_set_up_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PayloadError, match=r".") as refused:
        read([interface() | changes])
    assert says in str(refused.value)
    assert refused.value.name == "ContainerNetworkingError"


@given(st.dictionaries(st.sampled_from(sorted(interface())), JSON))
def test_nothing_else_comes_of_any_interface(changes: dict[str, Any]) -> None:
    try:
        eni = read([interface() | changes])
    except PayloadError:
        return
    assert eni.ipv4 or eni.ipv6
