from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition.rules import check_definition
from agent.controlplane.front.errors import ClientException
from tests.unit.controlplane.definition.builders import container, definition

REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        definition(container(links=["b"]), container("b"), networkMode="awsvpc"),
        "Links are not supported when networkMode=awsvpc",
    ),
    (definition(container(links=["b"]), networkMode="host"), "Links are not supported"),
    (definition(container(links=["b"])), "does not have"),
    (definition(container(links=["web:alias"])), "names itself"),
    (definition(container(links=["a:b:c"])), "must be name or name:alias"),
    (definition(container(hostname="h"), networkMode="awsvpc"), "Hostname is not supported"),
    (
        definition(
            container(extraHosts=[{"hostname": "h", "ipAddress": "1.1.1.1"}]), networkMode="awsvpc"
        ),
        "Extra hosts are not supported",
    ),
    (
        definition(
            container(portMappings=[{"containerPort": 80, "hostPort": 8080}]), networkMode="awsvpc"
        ),
        "When networkMode=awsvpc, the host ports and container ports in port mappings must match",
    ),
    (
        definition(
            container(portMappings=[{"containerPort": 80, "hostPort": 8080}]), networkMode="host"
        ),
        "When networkMode=host, the host ports",
    ),
    (
        definition(container(portMappings=[{"containerPort": 80}]), networkMode="none"),
        "not supported when networkMode=none",
    ),
    (
        definition(container(portMappings=[{"containerPort": 80}], disableNetworking=True)),
        "disableNetworking",
    ),
    *(
        (
            definition(container() | {member: value, "disableNetworking": True}),
            f"'{member}' needs networking",
        )
        for member, value in (
            ("links", ["a"]),
            ("extraHosts", [{"hostname": "h", "ipAddress": "192.0.2.1"}]),
            ("dnsServers", ["192.0.2.1"]),
            ("dnsSearchDomains", ["example.test"]),
        )
    ),
    (definition(container(portMappings=[{}])), "container port 0"),
    (definition(container(portMappings=[{"containerPort": 65536}])), "container port 65536"),
    (definition(container(portMappings=[{"containerPort": 1, "hostPort": -1}])), "host port -1"),
    (
        definition(
            container(portMappings=[{"containerPort": 80, "hostPort": 80}]),
            container("b", portMappings=[{"containerPort": 81, "hostPort": 80}]),
        ),
        "host port 80/tcp is used by more than one",
    ),
    (
        definition(container(portMappings=[{"containerPortRange": "80-90", "hostPort": 1}])),
        "Use either",
    ),
    (definition(container(portMappings=[{"containerPortRange": "90-80"}])), "first-last"),
    (definition(container(portMappings=[{"containerPortRange": "x"}])), "first-last"),
    (definition(container(portMappings=[{"containerPortRange": "80-80"}])), "first less than last"),
    (
        definition(
            container(portMappings=[{"containerPortRange": "100-104"}, {"containerPort": 102}])
        ),
        "The tcp port 102 is in more than one port mapping",
    ),
    (
        definition(
            container(
                portMappings=[
                    {"containerPortRange": "100-200"},
                    {"containerPort": 90},
                    {"containerPortRange": "150-160"},
                ]
            ),
            networkMode="awsvpc",
        ),
        "The tcp port 150 is in more than one port mapping",
    ),
    (
        definition(
            container(
                portMappings=[
                    {"containerPortRange": "1-200", "protocol": "udp"},
                    {"containerPortRange": "2-3", "protocol": "udp"},
                    {"containerPort": 199, "protocol": "udp"},
                ]
            ),
        ),
        "The udp port 2 is in more than one port mapping",
    ),
    (
        definition(
            container(
                portMappings=[{"containerPortRange": f"{n}-{n + 1}"} for n in range(1000, 1202, 2)]
            )
        ),
        "At most 100 port ranges",
    ),
    (
        definition(container(portMappings=[{"containerPortRange": "1-2"}]), networkMode="host"),
        "needs networkMode bridge or awsvpc",
    ),
]


@pytest.mark.parametrize(("request_", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_refused(request_: dict[str, Any], text: str) -> None:
    with pytest.raises(ClientException) as caught:
        check_definition(request_)
    assert text in str(caught.value)


ACCEPTED: list[dict[str, Any]] = [
    definition(container(links=["b:db"]), container("b")),
    definition(
        container(portMappings=[{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}]),
        container("b", portMappings=[{"containerPort": 80, "hostPort": 80, "protocol": "udp"}]),
    ),
    definition(
        container(portMappings=[{"containerPort": 80}]),
        container("b", portMappings=[{"containerPort": 80}]),
        networkMode="awsvpc",
    ),
    definition(container(portMappings=[{"containerPortRange": "80-90"}])),
    definition(
        container(
            portMappings=[
                {"containerPortRange": "100-104"},
                {"containerPort": 102, "protocol": "udp"},
                {"containerPortRange": "105-106"},
                {"containerPort": 80, "hostPort": 8080},
                {"containerPort": 80, "hostPort": 8081},
            ]
        )
    ),
]


@pytest.mark.parametrize("request_", ACCEPTED)
def test_accepted(request_: dict[str, Any]) -> None:
    assert check_definition(request_)["containerDefinitions"]


def test_same_ports_are_filled_in_where_the_host_port_is_the_container_port() -> None:
    for mode in ("host", "awsvpc"):
        checked = check_definition(
            definition(
                container(
                    portMappings=[{"containerPort": 80}, {"containerPort": 81, "hostPort": 0}]
                ),
                networkMode=mode,
            )
        )
        mappings = checked["containerDefinitions"][0]["portMappings"]
        assert [mapping["hostPort"] for mapping in mappings] == [80, 81]
