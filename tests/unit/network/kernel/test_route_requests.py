"""Requests as bytes mean what the same requests of pyroute2 mean, and any answer can be read."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from agent.network.bridge import bridge_port_setup
from agent.network.kernel import route_talk
from agent.network.kernel.raw_messages import message
from agent.network.kernel.route_requests import Request, RouteRequests

MAC = "0a:58:0a:00:00:05"
ASKED = RouteRequests()


def read(kind: type[Any], request: Request) -> Any:
    """Return a request as pyroute2 reads it."""
    sort, flags, body = request
    found = kind(message(sort, flags, 1, body))
    found.decode()
    return found


def test_a_pair_of_links_is_asked_for_with_both_ends() -> None:
    peer = {"ifname": "ecs0a000005", "mtu": 1400, "net_ns_pid": 77}
    request = ASKED.link(
        "add", ifname="eth0", kind="veth", index=100, address=MAC, mtu=1500, peer=peer
    )
    assert request[:2] == (16, 0x600)
    found = read(ifinfmsg, request)
    assert (found["index"], found.get("ifname"), found.get("address")) == (100, "eth0", MAC)
    assert (found.get("mtu"), found.get(("linkinfo", "kind"))) == (1500, "veth")
    other = found.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", "VETH_INFO_PEER")
    assert (other.get("ifname"), other.get("mtu"), other.get("net_ns_pid")) == (
        "ecs0a000005", 1400, 77,
    )  # fmt: skip


def test_a_port_is_set_up_and_closed_to_frames_for_others() -> None:
    request = ASKED.link("set", index=7, slave=bridge_port_setup.AS_PORT, state="up")
    found = read(ifinfmsg, request)
    assert (found["index"], found["flags"], found["change"]) == (7, 1, 1)
    assert found.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_KIND") == "bridge"
    settings = dict(found.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")["attrs"])
    known = {name: value for name, value in bridge_port_setup.FLAGS.items() if name in settings}
    assert {name: settings[name] for name in known} == known
    assert {"IFLA_BRPORT_LEARNING", "IFLA_BRPORT_UNICAST_FLOOD", "IFLA_BRPORT_FLUSH"} <= {*settings}


def test_a_link_is_put_on_a_bridge_without_an_ipv6_address() -> None:
    found = read(ifinfmsg, ASKED.link("set", index=7, master=3, no_ipv6_address=True))
    assert (found.get("master"), found["change"]) == (3, 0)
    family = found.get_attr("IFLA_AF_SPEC").get_attr("AF_INET6")
    assert family.get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1
    assert ASKED.link("del", ifname="x")[:2] == (17, 0)


@pytest.mark.parametrize(("address", "length"), [("10.0.0.5", 20), ("fd00::5", 128)])
def test_an_address(address: str, length: int) -> None:
    request = ASKED.addr("add", index=100, address=address, prefixlen=length, flags=2)
    assert request[:2] == (20, 0x600)
    found = read(ifaddrmsg, request)
    assert (found["index"], found["prefixlen"], found["flags"]) == (100, length, 2)
    assert found.get("IFA_ADDRESS") == found.get("IFA_LOCAL") == address


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"dst": "0.0.0.0/0", "gateway": "10.0.0.1", "oif": 100}, 1),
        ({"dst": "169.254.170.2/32", "gateway": "10.0.0.1", "oif": 100, "prefsrc": "10.0.0.5"}, 1),
        ({"dst": "10.0.0.1/32", "oif": 100, "scope": 253}, 1),
        ({"dst": "169.254.169.254/32", "type": "blackhole"}, 6),
        ({"dst": "::/0", "gateway": "fd00::1", "oif": 100}, 1),
        ({"dst": "fd00:ec2::254/128", "type": "blackhole"}, 6),
    ],
)
def test_a_route(given: dict[str, Any], kind: int) -> None:
    request = ASKED.route("replace", **given)
    assert request[:2] == (24, 0x500)
    found = read(rtmsg, request)
    network, _, length = given["dst"].partition("/")
    assert (found["dst_len"], found["type"], found["table"]) == (int(length), kind, 254)
    assert (found["proto"], found["scope"]) == (4, given.get("scope", 0))
    assert found["family"] == (socket.AF_INET6 if ":" in network else socket.AF_INET)
    assert found.get("dst") == (network if int(length) else None)
    for name in ("gateway", "oif", "prefsrc"):
        assert found.get(name) == given.get(name)


def test_neighbours() -> None:
    for dst in ("10.0.0.5", "fd00::5"):
        found = read(ndmsg, ASKED.neigh("replace", dst=dst, lladdr=MAC, ifindex=3, state=0x80))
        assert (found["ifindex"], found["state"], found.get("dst"), found.get("lladdr")) == (
            3, 0x80, dst, MAC,
        )  # fmt: skip
    entry = read(ndmsg, ASKED.fdb("replace", ifindex=7, lladdr=MAC, state=0x40, flags=4))
    assert (entry["family"], entry["ifindex"], entry["state"], entry["flags"]) == (7, 7, 0x40, 4)
    assert entry.get("lladdr") == MAC


def answer(number: int, code: int, words: str = "") -> bytes:
    said = words.encode() + b"\0" if words else b""
    more = struct.pack("=HH", 4 + len(said), 1) + said + bytes(-len(said) % 4) if words else b""
    return message(
        2, 0x200 if words else 0x100, number, struct.pack("=i", -code) + bytes(16) + more
    )


def test_answers_are_read_with_the_words_of_the_kernel() -> None:
    data = answer(1, 0) + answer(2, errno.EEXIST) + answer(3, errno.EINVAL, "Invalid prefix")
    first, second, third = route_talk.answers(data)
    assert first == (1, None)
    assert second[1] is not None
    assert (second[0], second[1].code) == (2, errno.EEXIST)
    assert third[1] is not None
    assert third[1].args == (errno.EINVAL, "Invalid prefix")


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert all(isinstance(number, int) for number, _ in route_talk.answers(data))
    assert [number for number, _ in route_talk.answers(answer(5, 0) + data)][:1] == [5]
