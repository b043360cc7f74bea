"""Tasks and containers become the objects of each version, as the reference of Amazon ECS has them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.payload import EngineConfig, PortMapping, RestartPolicy
from agent.model.status import ContainerStatus, Health, TaskStatus
from agent.model.task import NetworkBinding, TaskNetwork
from agent.runtime.protocol import (
    ContainerDetails,
    ContainerState,
    EndpointInNetwork,
    HealthProbe,
    Mount,
    PublishedPort,
)
from agent.task_endpoint.metadata import build
from agent.task_endpoint.metadata.document import TagError
from agent.task_endpoint.metadata.facts import HostFacts, NetworksUnknown, SeenTask, TaskTags
from tests.support import metadata_schemas as schemas
from tests.support.tasks import ARN, NOW, container, new_record, put

HOST = HostFacts(cluster="default", availability_zone="rack-1")
VERSIONS = pytest.mark.parametrize("version", [2, 3, 4])
NETWORK = TaskNetwork(
    attachment_id="eni-1",
    mac="0a:00:0a:cf:00:05",
    ipv4="10.207.0.5",
    prefix_len=20,
    gateway="10.207.0.1",
    hostname="ip-10-207-0-5",
    sandbox_id="id-sandbox",
)


def details(name: str, **fields: Any) -> ContainerDetails:
    state = fields.pop("state", {})
    given_state = {"running": True, "status": "running", "image_id": "sha256:1", **state}
    return ContainerDetails(
        state=ContainerState(id=f"id-{name}", name=f"ecs-web-1-{name}-00", **given_state),
        created_at="2026-11-29T12:00:00.123456789Z",
        started_at="2026-11-29T12:00:01.5Z",
        **fields,
    )


def on_wire(built: Any) -> Any:
    return json.loads(msgspec.json.encode(built))


def bridge_task(**definition: Any) -> SeenTask:
    record = new_record(container("web", **definition), network_mode="bridge", launch_type="EC2")
    record.known = TaskStatus.RUNNING
    put(record, "web", ContainerStatus.RUNNING, engine_name="ecs-web-1-web-00")
    seen = details(
        "web",
        networks=(EndpointInNetwork(network="bridge", ipv4="172.17.0.2", ipv6="fd00::2"),),
        ports=(
            PublishedPort(container_port=80, protocol="tcp", host_port=8080, host_ip="0.0.0.0"),
            PublishedPort(container_port=80, protocol="tcp", host_port=8080, host_ip="::"),
        ),
        mounts=(
            Mount(name="v-1", source="/var/lib/docker/v-1", destination="/data"),
            Mount(name="", source="/srv", destination="/srv"),
        ),
    )
    return SeenTask(record=record, details={"web": seen})


@VERSIONS
def test_a_task_in_bridge_mode(version: int) -> None:
    seen = bridge_task()
    seen.record.pull_started_at = NOW + 0.25
    built = on_wire(build.task(seen, HOST, extended=version == 4))
    schemas.check(built, schemas.task(version))
    assert (built["TaskARN"], built["Family"], built["Revision"]) == (ARN, "web", "1")
    assert (built["DesiredStatus"], built["KnownStatus"]) == ("RUNNING", "RUNNING")
    assert built["PullStartedAt"] == "2023-11-14T22:13:20.250000000Z"
    assert "PullStoppedAt" not in built
    assert "Limits" not in built
    assert built["AvailabilityZone"] == "rack-1"
    (web,) = built["Containers"]
    assert web["CreatedAt"] == "2026-11-29T12:00:00.123456789Z"
    assert "FinishedAt" not in web
    assert web["Volumes"] == [
        {"DockerName": "v-1", "Source": "/var/lib/docker/v-1", "Destination": "/data"},
        {"Source": "/srv", "Destination": "/srv"},
    ]
    port = {"ContainerPort": 80, "Protocol": "tcp", "HostPort": 8080}
    if version == 4:
        assert web["Ports"] == [{**port, "HostIp": "0.0.0.0"}, {**port, "HostIp": "::"}]
        assert web["Networks"] == [
            {
                "NetworkMode": "bridge",
                "IPv4Addresses": ["172.17.0.2"],
                "IPv6Addresses": ["fd00::2"],
            }
        ]
        assert built["FaultInjectionEnabled"] is False
        assert built["LaunchType"] == "EC2"
    else:
        assert web["Ports"] == [port, port]
        assert web["Networks"] == [{"NetworkMode": "bridge", "IPv4Addresses": ["172.17.0.2"]}]


@VERSIONS
def test_a_task_in_awsvpc_mode_has_one_network_and_its_pause_container(version: int) -> None:
    record = new_record(
        container("web", port_mappings=[PortMapping(container_port=80)], cpu=1, memory=64),
        network_mode="awsvpc",
        cpu=0.5,
        memory=512,
    )
    record.network = NETWORK
    put(record, "web", ContainerStatus.RUNNING, engine_name="ecs-web-1-web-00")
    sandbox = details("sandbox", dns_servers=("10.0.0.2",), dns_search=("site",), image="pause:1")
    seen = SeenTask(record=record, details={"web": details("web")}, sandbox=sandbox)
    built = on_wire(build.task(seen, HOST, extended=version == 4))
    schemas.check(built, schemas.task(version))
    assert built["Limits"] == {"CPU": 0.5, "Memory": 512}
    pause, web = built["Containers"]
    assert (pause["Name"], pause["Type"]) == ("~internal~ecs~pause", "CNI_PAUSE")
    assert pause["KnownStatus"] == "RESOURCES_PROVISIONED"
    assert web["Limits"] == {"CPU": 2, "Memory": 64}
    assert web["Ports"] == [{"ContainerPort": 80, "Protocol": "tcp", "HostPort": 80}]
    (network,) = web["Networks"]
    assert pause["Networks"] == web["Networks"]
    if version == 4:
        assert network == {
            "NetworkMode": "awsvpc",
            "IPv4Addresses": ["10.207.0.5"],
            "AttachmentIndex": 0,
            "MACAddress": "0a:00:0a:cf:00:05",
            "IPv4SubnetCIDRBlock": "10.207.0.0/20",
            "DomainNameServers": ["10.0.0.2"],
            "DomainNameSearchList": ["site"],
            "PrivateDNSName": "ip-10-207-0-5",
            "SubnetGatewayIpv4Address": "10.207.0.1/20",
        }
    else:
        assert network == {"NetworkMode": "awsvpc", "IPv4Addresses": ["10.207.0.5"]}


@VERSIONS
@pytest.mark.parametrize("alone", [False, True])
def test_a_task_with_ipv6_shows_it(version: int, alone: bool) -> None:
    record = new_record(container("web"), network_mode="awsvpc")
    record.network = msgspec.structs.replace(
        NETWORK, ipv6="fd00::5", ipv6_prefix_len=128, ipv6_gateway="fd00::1",
        **({"ipv4": "", "prefix_len": 0, "gateway": ""} if alone else {}),
    )  # fmt: skip
    put(record, "web", ContainerStatus.RUNNING, engine_name="ecs-web-1-web-00")
    seen = SeenTask(record=record, details={"web": details("web")}, sandbox=None)
    built = on_wire(build.task(seen, HOST, extended=version == 4))
    network = built["Containers"][-1]["Networks"][0]
    assert network.get("IPv4Addresses", []) == ([] if alone else ["10.207.0.5"])
    assert network["IPv6Addresses"] == ["fd00::5"]
    if version == 4:
        assert network["IPv6SubnetCIDRBlock"] == "fd00::5/128"
        assert ("IPv4SubnetCIDRBlock" in network) is not alone
        # As Amazon ECS, which tells only tasks with IPv6 alone.
        assert network.get("SubnetGatewayIpv6Address") == ("fd00::1/128" if alone else None)


@VERSIONS
def test_host_mode_has_an_empty_address_and_the_ports_of_the_host(version: int) -> None:
    record = new_record(container("web"), network_mode="host")
    put(
        record,
        "web",
        ContainerStatus.RUNNING,
        engine_name="n",
        bindings=[
            NetworkBinding(container_port_range="80-81", host_port_range="80-81", protocol="udp")
        ],
    )
    seen = SeenTask(
        record=record,
        details={"web": details("web", networks=(EndpointInNetwork(network="host"),))},
    )
    built = on_wire(build.container(seen, "web", extended=version == 4))
    schemas.check(built, schemas.container(version))
    assert built["Networks"] == [{"NetworkMode": "host", "IPv4Addresses": [""]}]
    assert [port["HostPort"] for port in built["Ports"]] == [80, 81]


def test_version_4_lists_a_container_that_is_only_pulled() -> None:
    seen = bridge_task()
    record = new_record(container("web"), container("late"), network_mode="bridge")
    record.containers["web"] = seen.record.containers["web"]
    put(record, "late", ContainerStatus.PULLED)
    seen = SeenTask(record=record, details=seen.details)
    old = on_wire(build.task(seen, HOST, extended=False))
    new = on_wire(build.task(seen, HOST, extended=True))
    schemas.check(new, schemas.task(4))
    assert [each["Name"] for each in old["Containers"]] == ["web"]
    assert [(each["Name"], each["DockerId"]) for each in new["Containers"]] == [
        ("web", "id-web"),
        ("late", ""),
    ]


def test_networks_that_the_engine_does_not_tell() -> None:
    seen = bridge_task()
    unknown = SeenTask(record=seen.record)
    for extended in (False, True):
        with pytest.raises(NetworksUnknown, match="id-web"):
            build.container(unknown, "web", extended=extended)
    with pytest.raises(NetworksUnknown):
        build.task(unknown, HOST, extended=False)
    (web,) = on_wire(build.task(unknown, HOST, extended=True))["Containers"]
    schemas.check(web, schemas.container(4))
    assert "Networks" not in web
    assert web["StartedAt"] == "2023-11-14T22:13:20.000000000Z"


@pytest.mark.parametrize(
    ("enabled", "shown"), [(True, {"RestartCount": 2}), (False, {}), (None, {})]
)
def test_restarts_are_counted_where_a_policy_makes_them(
    enabled: bool | None, shown: dict[str, int]
) -> None:
    policy = None if enabled is None else RestartPolicy(enabled=enabled)
    seen = bridge_task(restart_policy=policy)
    seen.record.containers["web"].restart_count = 2
    built = on_wire(build.container(seen, "web", extended=True))
    assert {key: built[key] for key in built.keys() & {"RestartCount"}} == shown
    assert "RestartCount" not in on_wire(build.container(seen, "web", extended=False))


def test_health_and_how_a_container_ended() -> None:
    seen = bridge_task(health_check_type="docker")
    web = seen.record.containers["web"]
    web.health, web.health_since = Health.UNHEALTHY, NOW
    web.known, web.exit_code, web.finished_at = ContainerStatus.STOPPED, 0, NOW + 1
    probed = msgspec.structs.replace(
        seen.details["web"], probe=HealthProbe(exit_code=3, output="refused")
    )
    built = on_wire(
        build.container(
            SeenTask(record=seen.record, details={"web": probed}), "web", extended=False
        )
    )
    schemas.check(built, schemas.container(3))
    assert built["Health"] == {
        "status": "UNHEALTHY",
        "statusSince": "2023-11-14T22:13:20.000000000Z",
        "exitCode": 3,
        "output": "refused",
    }
    assert built["ExitCode"] == 0
    assert built["FinishedAt"] == "2023-11-14T22:13:21.000000000Z"


def test_the_log_driver_is_that_of_the_order_without_what_the_agent_adds() -> None:
    options = {"awslogs-group": "/web", "awslogs-region": "eu-west-1"}
    logs = {"LogConfig": {"Type": "awslogs", "Config": options}}
    seen = bridge_task(docker_config=EngineConfig(host_config=logs))
    built = on_wire(build.container(seen, "web", extended=True))
    assert (built["LogDriver"], built["LogOptions"]) == ("awslogs", options)
    assert "LogDriver" not in on_wire(build.container(seen, "web", extended=False))


@VERSIONS
def test_tags_and_why_they_are_missing(version: int) -> None:
    error = TagError(error_field="ContainerInstanceTags", error_message="no", resource_arn="arn")
    tags = TaskTags(task={"a": "1"}, errors=[error])
    built = on_wire(build.task(bridge_task(), HOST, extended=version == 4, tags=tags))
    schemas.check(built, schemas.task(version, with_tags=True))
    assert built["TaskTags"] == {"a": "1"}
    assert "ContainerInstanceTags" not in built
    assert ("Errors" in built) == (version == 4)


@given(st.floats(min_value=1, max_value=4e9))
def test_times_are_rfc_3339(seconds: float) -> None:
    schemas.check(build.rfc3339(seconds), schemas.TIME)


def test_no_time_is_none() -> None:
    assert build.rfc3339(0.0) == ""
