"""Reading what a container may be told of itself from the engine's JSON, whatever that is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.docker.details import container_details
from agent.runtime.protocol import (
    ContainerDetails,
    ContainerState,
    EndpointInNetwork,
    HealthProbe,
    Mount,
    PublishedPort,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
INSPECT: dict[str, Any] = {
    "Id": "abc",
    "Name": "/ecs-web-1",
    "Created": "2024-05-01T10:00:00.123456789Z",
    "Image": "sha256:1",
    "State": {
        "Status": "running",
        "Running": True,
        "StartedAt": "2024-05-01T10:00:01.000000001Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {"Log": [{"ExitCode": 0, "Output": "a"}, {"ExitCode": 7, "Output": "b"}]},
    },
    "Config": {"Image": "busybox:latest", "Labels": {"a": "b"}},
    "HostConfig": {"NetworkMode": "bridge", "Dns": ["10.0.0.2"], "DnsSearch": ["site"]},
    "Mounts": [
        {"Type": "volume", "Name": "v", "Source": "/var/v", "Destination": "/data"},
        {"Type": "bind", "Source": "/srv", "Destination": "/srv"},
    ],
    "NetworkSettings": {
        "Ports": {
            "80/tcp": [
                {"HostIp": "0.0.0.0", "HostPort": "8080"},
                {"HostIp": "::", "HostPort": "8080"},
            ],
            "53/udp": None,
        },
        "Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": "fd00::2"}},
    },
}


def test_a_running_container() -> None:
    assert container_details(INSPECT) == ContainerDetails(
        state=ContainerState(
            id="abc",
            name="ecs-web-1",
            running=True,
            status="running",
            created_at=1714557600.123456,
            started_at=1714557601.0,
            image_id="sha256:1",
            labels={"a": "b"},
            network_mode="bridge",
            ipv4="172.17.0.2",
        ),
        image="busybox:latest",
        created_at="2024-05-01T10:00:00.123456789Z",
        started_at="2024-05-01T10:00:01.000000001Z",
        networks=(EndpointInNetwork(network="bridge", ipv4="172.17.0.2", ipv6="fd00::2"),),
        ports=(
            PublishedPort(container_port=80, protocol="tcp", host_port=8080, host_ip="0.0.0.0"),
            PublishedPort(container_port=80, protocol="tcp", host_port=8080, host_ip="::"),
        ),
        mounts=(
            Mount(name="v", source="/var/v", destination="/data"),
            Mount(name="", source="/srv", destination="/srv"),
        ),
        probe=HealthProbe(exit_code=7, output="b"),
        dns_servers=("10.0.0.2",),
        dns_search=("site",),
    )


@given(st.dictionaries(st.sampled_from(sorted(INSPECT)), JSON))
def test_whatever_else_comes_is_read(raw: dict[str, Any]) -> None:
    assert isinstance(container_details({**INSPECT, **raw}), ContainerDetails)
