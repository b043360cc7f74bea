"""Which containers are scraped, and where."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from agent.controlplane import host_ports
from agent.controlplane.monitoring import targets
from agent.controlplane.monitoring.targets import TaskAttachment, TaskContainer, TaskFacts
from agent.controlplane.records import AttributeRecord, InstanceRecord, TaskDefinitionRecord
from agent.model.changes import NetworkInterface
from agent.model.resources import HostResources
from agent.model.task import NetworkBinding

EXPORTER = {"ECS_PROMETHEUS_EXPORTER_PORT": "9100"}


def definition(mode: str = "bridge", **container: Any) -> TaskDefinitionRecord:
    body = {
        "networkMode": mode,
        "containerDefinitions": [{"name": "main", "image": "i"} | container],
    }
    return TaskDefinitionRecord(arn="arn:d:3", family="web", revision=3, definition=body)


def a_task(**container: Any) -> TaskFacts:
    values: dict[str, Any] = {"name": "main", "image": "i:1", "last_status": "RUNNING"}
    return TaskFacts(
        id="t1",
        arn="arn:aws:ecs:r:0:task/one/t1",
        cluster="one",
        task_definition_arn="arn:d:3",
        family="web",
        revision=3,
        instance_id="i1",
        containers=[TaskContainer(**(values | container))],
        group="service:shop",
        tags={"team/name": "x"},
        network_configuration={"awsvpcConfiguration": {"subnets": ["s1"]}},
    )


def instance(**attributes: str) -> InstanceRecord:
    given = {host_ports.HOST_ADDRESS: "192.0.2.7"} | attributes
    return InstanceRecord(
        id="i1",
        arn="arn:i1",
        cluster="one",
        client_token="c",
        resources=HostResources(cpu_units=1, memory_mib=1, hostname="h1"),
        attributes={name: AttributeRecord(value=value) for name, value in given.items()},
        tags={"rack": "a1"},
    )


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, []),
        ({"dockerLabels": EXPORTER}, [(9100, "/metrics", "http", "")]),
        (
            {
                "dockerLabels": EXPORTER
                | {"ECS_PROMETHEUS_METRICS_PATH": "stats", "ECS_PROMETHEUS_JOB_NAME": "shop"}
            },
            [(9100, "/stats", "http", "shop")],
        ),
        (
            {"dockerLabels": {"ECS_PROMETHEUS_EXPORTER_PORT": "70000"}},
            [(None, "/metrics", "http", "")],
        ),
        (
            {
                "dockerLabels": {
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": "81",
                    "prometheus.io/path": "/m",
                    "prometheus.io/scheme": "https",
                }
            },
            [(81, "/m", "https", "")],
        ),
        (
            {
                "dockerLabels": {"prometheus.io/scrape": "true"},
                "portMappings": [{"containerPort": 80}],
            },
            [(80, "/metrics", "http", "")],
        ),
        (
            {
                "dockerLabels": {"prometheus.io/scrape": "true"},
                "portMappings": [{"containerPort": 80}, {"containerPort": 81}],
            },
            [(None, "/metrics", "http", "")],
        ),
        ({"dockerLabels": {"prometheus.io/port": "81"}}, []),
        (
            {
                "portMappings": [
                    {"containerPort": 80, "name": "http"},
                    {"containerPort": 81, "name": "metrics"},
                    {"containerPort": 82, "name": "jvm-metrics"},
                    {"containerPort": 83, "name": "prometheus"},
                ]
            },
            [
                (81, "/metrics", "http", ""),
                (82, "/metrics", "http", ""),
                (83, "/metrics", "http", ""),
            ],
        ),
        (
            {
                "dockerLabels": {"prometheus.io/scrape": "false"},
                "portMappings": [{"containerPort": 81, "name": "metrics"}],
            },
            [],
        ),
    ],
)
def test_how_a_container_asks(container: dict[str, Any], expected: list[Any]) -> None:
    found = targets.exporters(definition(**container)).found
    assert [(one.port, one.path, one.scheme, one.job) for one in found] == expected


BINDING = NetworkBinding(container_port=9100, host_port=32768)


@pytest.mark.parametrize(
    ("mode", "container", "host", "place"),
    [
        ("awsvpc", {}, instance(), None),
        (
            "awsvpc",
            {
                "network_interfaces": [
                    NetworkInterface(attachment_id="e", private_ipv4_address="10.0.0.9")
                ]
            },
            None,
            "10.0.0.9:9100",
        ),
        ("host", {}, instance(), "192.0.2.7:9100"),
        ("host", {}, instance(**{host_ports.HOST_ADDRESS: "2001:db8::7"}), "[2001:db8::7]:9100"),
        ("host", {}, instance(**{host_ports.HOST_ADDRESS: "a/b"}), None),
        ("host", {}, None, None),
        ("bridge", {}, instance(), None),
        ("bridge", {"network_bindings": [BINDING]}, instance(), "192.0.2.7:32768"),
        (
            "bridge",
            {
                "network_bindings": [
                    NetworkBinding(bind_ip="127.0.0.1", container_port=9100, host_port=5)
                ]
            },
            instance(),
            "127.0.0.1:5",
        ),
        (
            "bridge",
            {
                "network_bindings": [
                    NetworkBinding(container_port=9100, host_port=5, protocol="udp"),
                    NetworkBinding(container_port_range="9000-9200", host_port_range="40000-40200"),
                ]
            },
            instance(),
            "192.0.2.7:40100",
        ),
        ("none", {}, instance(), None),
        ("bridge", {"last_status": "PENDING", "network_bindings": [BINDING]}, instance(), ""),
    ],
)
def test_where_a_container_is_reached(
    mode: str, container: dict[str, Any], host: InstanceRecord | None, place: str | None
) -> None:
    wanted = targets.exporters(definition(mode, dockerLabels=EXPORTER))
    found, lost = targets.of_task(a_task(**container), wanted, host, "r")
    assert [one.targets for one in found] == ([[place]] if place else [])
    assert lost == (1 if place is None else 0)


def test_an_address_that_only_the_attachment_has() -> None:
    wanted = targets.exporters(definition("awsvpc", dockerLabels=EXPORTER))
    attachment = TaskAttachment(details={"privateIPv4Address": "10.0.0.8"})
    task = structs.replace(a_task(), attachments=[attachment])
    found, lost = targets.of_task(task, wanted, None, "r")
    assert [one.targets for one in found] == [["10.0.0.8:9100"]]
    assert lost == 0


def test_labels_of_a_target() -> None:
    labels = EXPORTER | {"ECS_PROMETHEUS_JOB_NAME": "shop", "com.example/team": "x"}
    wanted = targets.exporters(definition(dockerLabels=labels))
    ((target,), _) = targets.of_task(
        a_task(network_bindings=[BINDING]), wanted, instance(), "eu-central-1"
    )
    expected = {
        "__metrics_path__": "/metrics",
        "__scheme__": "http",
        "job": "shop",
        "__meta_ecs_cluster": "one",
        "__meta_ecs_cluster_arn": "arn:aws:ecs:r:0:cluster/one",
        "__meta_ecs_service": "shop",
        "__meta_ecs_task_group": "service:shop",
        "__meta_ecs_task_arn": "arn:aws:ecs:r:0:task/one/t1",
        "__meta_ecs_task_definition": "arn:d:3",
        "__meta_ecs_task_definition_family": "web",
        "__meta_ecs_task_definition_revision": "3",
        "__meta_ecs_region": "eu-central-1",
        "__meta_ecs_subnet_id": "s1",
        "__meta_ecs_launch_type": "EC2",
        "__meta_ecs_network_mode": "bridge",
        "__meta_ecs_ip_address": "192.0.2.7",
        "__meta_ecs_container_name": "main",
        "__meta_ecs_container_port": "9100",
        "__meta_ecs_container_label_com_example_team": "x",
        "__meta_ecs_tag_task_team_name": "x",
        "__meta_ecs_tag_container_instance_rack": "a1",
        "__meta_ecs_hostname": "h1",
    }
    assert expected.items() <= target.labels.items()
    assert "__meta_ecs_platform_family" not in target.labels


@pytest.mark.parametrize(
    ("address", "status", "expected"),
    [
        ("192.0.2.7:51680", "ACTIVE", ["192.0.2.7:51680"]),
        ("[2001:db8::7]:51680", "DRAINING", ["[2001:db8::7]:51680"]),
        ("192.0.2.7:51680", "INACTIVE", None),
        ("", "ACTIVE", None),
        ("http://192.0.2.7:1", "ACTIVE", None),
        ("a/b:1", "ACTIVE", None),
    ],
)
def test_where_an_agent_is_scraped(address: str, status: str, expected: list[str] | None) -> None:
    host = instance(**{targets.METRICS_ADDRESS: address})
    record = InstanceRecord(
        id=host.id,
        arn=host.arn,
        cluster=host.cluster,
        client_token="c",
        resources=host.resources,
        attributes=host.attributes,
        status=status,
    )
    target = targets.of_agent(record, "r", connected=True)
    assert (target.targets if target else None) == expected
