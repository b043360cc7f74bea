from __future__ import annotations

import pytest

from agent.engine import ports
from agent.errors import PayloadError
from agent.model.payload import PortMapping
from agent.model.task import NetworkBinding
from tests.support.tasks import container, new_record, payload

PORTS = [
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=5353, protocol="udp"),
    PortMapping(container_port=443),
    PortMapping(container_port_range="9000-9002", protocol=None),
]
PICKED = {"a/443/tcp": [33000], "a/9000-9002/tcp": [34000, 34001, 34002]}


def test_network_bindings_show_what_is_published() -> None:
    a = container("a", port_mappings=PORTS)
    shown = ports.network_bindings(payload(a, network_mode="bridge"), a, PICKED)
    assert shown == [
        NetworkBinding(container_port=80, host_port=8080),
        NetworkBinding(container_port=53, host_port=5353, protocol="udp"),
        NetworkBinding(container_port=443, host_port=33000),
        NetworkBinding(container_port_range="9000-9002", host_port_range="34000-34002"),
    ]
    host = ports.network_bindings(payload(a, network_mode="host"), a, {})
    assert host[2:] == [
        NetworkBinding(container_port=443, host_port=443),
        NetworkBinding(container_port_range="9000-9002", host_port_range="9000-9002"),
    ]
    for mode in ("awsvpc", "none"):
        assert ports.network_bindings(payload(a, network_mode=mode), a, PICKED) == []


@pytest.mark.parametrize(
    "mapping",
    [
        PortMapping(),
        PortMapping(container_port=65536),
        PortMapping(container_port=-1),
        PortMapping(container_port=80, host_port=70000),
        PortMapping(container_port=80, host_port=-1),
        PortMapping(container_port_range="80"),
        PortMapping(container_port_range="a-b"),
        PortMapping(container_port_range="90-80"),
        PortMapping(container_port_range="0-80"),
        PortMapping(container_port_range="80-65536"),
        PortMapping(container_port_range="80-81-82"),
        PortMapping(container_port_range="1-" + "9" * 5000),
        PortMapping(container_port_range="²-³"),
    ],
)
def test_bad_ports(mapping: PortMapping) -> None:
    with pytest.raises(PayloadError) as caught:
        ports.container_ports(mapping)
    assert caught.value.name == "HostConfigError"
    assert len(str(caught.value)) < 6000


def test_a_port_that_is_published_twice_has_two_names() -> None:
    twice = [
        PortMapping(container_port=80),
        PortMapping(container_port=80, protocol="udp"),
        PortMapping(container_port=80, protocol="tcp"),
    ]
    a = container("a", port_mappings=twice)
    keys = [key for key, _ in ports.keyed_mappings(a)]
    assert keys == ["a/80/tcp", "a/80/udp", "a/80#2/tcp"]
    picked = {"a/80/tcp": [1], "a/80/udp": [2], "a/80#2/tcp": [3]}
    assert ports.port_bindings(a, picked) == {
        "80/tcp": [{"HostPort": "1"}, {"HostPort": "3"}],
        "80/udp": [{"HostPort": "2"}],
    }
    shown = ports.network_bindings(payload(a, network_mode="bridge"), a, picked)
    assert [b.host_port for b in shown] == [1, 2, 3]
    record = new_record(a)
    record.host_ports = picked
    assert ports.held_ports(record) == [("tcp", [1]), ("udp", [2]), ("tcp", [3])]


def test_what_was_picked_is_read_back_from_what_the_engine_was_asked_for() -> None:
    a = container(
        "a",
        port_mappings=[
            PortMapping(container_port=80),
            PortMapping(container_port=80, host_port=8080),
            PortMapping(container_port=80),
            PortMapping(container_port=53, protocol="udp"),
            PortMapping(container_port_range="100-102"),
            PortMapping(container_port=9),
        ],
    )
    picked = {"a/80/tcp": [1], "a/80#3/tcp": [3], "a/53/udp": [4], "a/100-102/tcp": [5, 6, 7]}
    asked = ports.port_bindings(a, {**picked, "a/9/tcp": [9]})
    bindings = {port: [int(b["HostPort"]) for b in each] for port, each in asked.items()}
    del bindings["9/tcp"]
    assert ports.published(a, bindings) == picked


def test_certain_ports_are_those_that_no_other_can_stand_in_for() -> None:
    mappings = [
        PortMapping(container_port=80, host_port=8080),
        PortMapping(container_port=53, host_port=5353, protocol="udp"),
        PortMapping(container_port=81),
        PortMapping(container_port_range="9000-9001"),
    ]
    a = container("a", port_mappings=mappings)

    bridge, host = payload(a, network_mode="bridge"), payload(a, network_mode="host")
    assert ports.certain_ports(bridge, a) == [("tcp", 8080), ("udp", 5353)]
    assert ports.certain_ports(host, a) == [("tcp", 80), ("udp", 53), ("tcp", 81)]
    assert ports.certain_ports(payload(a, network_mode="none"), a) == []


def test_a_sandbox_is_ready_only_for_ports_that_may_be_any() -> None:
    any_port = [
        PortMapping(container_port=80),
        PortMapping(container_port_range="9000-9001", protocol="udp"),
        PortMapping(container_port_range="7-7"),
    ]
    a = container("a", port_mappings=any_port)

    assert ports.ready_ports(a) == ("80/tcp", "9000-9001/udp", "7/tcp")
    assert ports.ready_ports(container("b")) == ()
    fixed = [*any_port, PortMapping(container_port=81, host_port=81)]
    assert ports.ready_ports(container("c", port_mappings=fixed)) is None
    assert list(ports.stand_ins(container("c", port_mappings=fixed))) == [
        "c/80/tcp", "c/9000-9001/udp", "c/7-7/tcp"
    ]  # fmt: skip
