"""Where a task is reached as a target, by its network mode and the type of the group."""

from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.host_ports import HOST_ADDRESS
from agent.controlplane.loadbalancing.balancer_records import TargetGroupRecord
from agent.controlplane.records import (
    AttachmentRecord,
    AttributeRecord,
    ContainerRecord,
    InstanceRecord,
    TaskRecord,
)
from agent.controlplane.services import places
from agent.model.changes import NetworkInterface
from agent.model.resources import HostResources
from agent.model.task import NetworkBinding

ARN = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/shop/0000000000000001"
BALANCER = {"targetGroupArn": ARN, "containerName": "main", "containerPort": 8080}
OWN: dict[str, Any] = {
    "network_interfaces": [NetworkInterface(attachment_id="e", private_ipv4_address="10.0.0.9")]
}
BOUND: dict[str, Any] = {"network_bindings": [NetworkBinding(container_port=8080, host_port=32768)]}
LOCAL: dict[str, Any] = {
    "network_bindings": [NetworkBinding(bind_ip="10.1.1.1", container_port=8080, host_port=5)]
}


def host(address: str = "192.0.2.7", **fields: Any) -> InstanceRecord:
    return InstanceRecord(
        id="h1",
        arn="arn:h1",
        cluster="default",
        resources=HostResources(cpu_units=1024, memory_mib=1024),
        client_token="t",
        attributes={HOST_ADDRESS: AttributeRecord(value=address)} if address else {},
        **fields,
    )


def a_task(*, attached: str = "", **fields: Any) -> TaskRecord:
    details = {"privateIPv4Address": attached}
    return TaskRecord(
        id="t1",
        arn="arn:t1",
        cluster="default",
        task_definition_arn="arn:web:1",
        family="web",
        revision=1,
        containers=[ContainerRecord(name="side", arn="c0"), container(**fields)],
        attachments=[AttachmentRecord(id="e", details=details)] if attached else [],
    )


def container(**fields: Any) -> ContainerRecord:
    return ContainerRecord(name="main", arn="c1", **fields)


def groups(target_type: str) -> dict[str, TargetGroupRecord]:
    return {
        ARN: TargetGroupRecord(
            name="shop",
            id="0000000000000001",
            arn=ARN,
            protocol="HTTP",
            port=80,
            target_type=target_type,
        )
    }


@pytest.mark.parametrize(
    ("mode", "target_type", "task", "on", "place"),
    [
        ("awsvpc", "ip", a_task(**OWN), host(), ("10.0.0.9", 8080, "10.0.0.9")),
        ("awsvpc", "ip", a_task(attached="10.0.0.8"), host(""), ("10.0.0.8", 8080, "10.0.0.8")),
        ("host", "ip", a_task(), host(), ("192.0.2.7", 8080, "192.0.2.7")),
        ("host", "instance", a_task(), host(), ("i-h1", 8080, "192.0.2.7")),
        ("bridge", "ip", a_task(**BOUND), host(), ("192.0.2.7", 32768, "192.0.2.7")),
        ("bridge", "ip", a_task(**LOCAL), host(), ("10.1.1.1", 5, "10.1.1.1")),
        (
            "bridge",
            "instance",
            a_task(**BOUND),
            host(ec2_instance_id="i-1"),
            ("i-1", 32768, "192.0.2.7"),
        ),
    ],
)
def test_where_a_task_is_reached(
    mode: str, target_type: str, task: TaskRecord, on: InstanceRecord, place: tuple[str, int, str]
) -> None:
    found = places.target_of(task, mode, on, BALANCER, groups(target_type))
    assert (found.id, found.port, found.address) == place
    assert (found.group_arn, found.task_id) == (ARN, "t1")


@pytest.mark.parametrize(
    ("mode", "task", "on", "text"),
    [
        ("awsvpc", a_task(), host(), "it has reported no IPv4 address"),
        ("host", a_task(), host(""), r"\(container-instance h1\) has reported no IPv4 address"),
        ("bridge", a_task(**BOUND), host(""), r"\(container-instance h1\) has reported no"),
        ("bridge", a_task(), host(), r"\(container main\) has no host port for its port 8080"),
    ],
)
def test_a_task_that_is_not_reached_says_why(
    mode: str, task: TaskRecord, on: InstanceRecord, text: str
) -> None:
    with pytest.raises(places.NoPlace, match=text):
        places.target_of(task, mode, on, BALANCER, groups("ip"))


def test_a_group_that_is_gone_has_no_targets() -> None:
    with pytest.raises(places.NoPlace, match="does not exist any more"):
        places.target_of(a_task(), "host", host(), BALANCER, {})
