from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest

from agent.controlplane.agents import report_rules, reports, usage_rules
from agent.controlplane.agents.longpoll import held, messages
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.bounds import OutOfBounds
from agent.model import payload as payload_model
from agent.model.changes import (
    AttachmentChange,
    ContainerChange,
    ManagedAgentChange,
    NetworkInterface,
    TaskChange,
)
from agent.model.payload import Container, EngineConfig, PortMapping, TaskPayload
from agent.model.statistics import StatisticSet
from agent.model.task import NetworkBinding
from agent.model.usage import HostUsage, TaskUsage, Usage
from agent.model.wire import ChangeAnswer, Changes

MIB = 1024 * 1024
ARN = "arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef"


def container(**more: Any) -> ContainerChange:
    values: dict[str, Any] = {
        "container_name": "main",
        "status": "RUNNING",
        "runtime_id": "f" * 64,
        "image_digest": "sha256:" + "a" * 64,
        "network_bindings": [
            NetworkBinding(container_port=80, host_port=65535),
            NetworkBinding(bind_ip="::", container_port_range="90-91", host_port_range="1-2"),
        ],
        "network_interfaces": [
            NetworkInterface(attachment_id="a1", private_ipv4_address="10.0.0.2")
        ],
        "managed_agents": [ManagedAgentChange(name="ExecuteCommandAgent", status="RUNNING")],
    }
    return ContainerChange(**(values | more))


def change(*, of_container: dict[str, Any] | None = None, **more: Any) -> TaskChange:
    values: dict[str, Any] = {
        "id": "c1",
        "task_arn": ARN,
        "status": "RUNNING",
        "at": 1_700_000_000.5,
        "containers": [container(**(of_container or {}))],
        "attachments": [AttachmentChange(id="a1", status="ATTACHED", details={"macAddress": "0a"})],
    }
    return TaskChange(**(values | more))


def test_what_agents_report_is_taken() -> None:
    report_rules.check(change())
    # The end of a task gets through whatever the engine said of it.
    evil = "\x1b[2J\n" * 10_000
    report_rules.check(change(reason=evil, of_container={"reason": evil, "exit_code": -(2**31)}))


@pytest.mark.parametrize(
    ("of_container", "field"),
    [
        ({"network_bindings": [NetworkBinding(host_port=2**63)]}, "networkBindings[0].hostPort"),
        ({"network_bindings": [NetworkBinding(host_port=0)]}, "networkBindings[0].hostPort"),
        ({"network_bindings": [NetworkBinding(container_port=65536)]}, "containerPort"),
        ({"network_bindings": [NetworkBinding(container_port_range="1-2-3")]}, "PortRange"),
        ({"network_bindings": [NetworkBinding(bind_ip="0.0.0.0\n")]}, "bindIP"),
        ({"network_bindings": [NetworkBinding(protocol="x" * 99)]}, "protocol"),
        ({"network_bindings": [NetworkBinding()] * 4001}, "networkBindings"),
        ({"image_digest": "d" * 5 * MIB}, "imageDigest"),
        ({"image_digest": "sha256:\x1b[2J"}, "imageDigest"),
        ({"runtime_id": "r" * 256}, "runtimeId"),
        ({"container_name": "n" * 256}, "containerName"),
        ({"status": "DANCING"}, "status"),
        ({"exit_code": 2**31}, "exitCode"),
        ({"restart_count": -1}, "restartCount"),
        ({"managed_agents": [ManagedAgentChange(name="", status="")] * 17}, "managedAgents"),
    ],
)
def test_a_container_that_cannot_be_is_refused(of_container: dict[str, Any], field: str) -> None:
    with pytest.raises(OutOfBounds) as caught:
        report_rules.check(change(of_container=of_container))
    assert "containers[0]." in str(caught.value)
    assert field in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "i" * 129}, "id"),
        ({"task_arn": "a" * 513}, "taskArn"),
        ({"status": ""}, "status"),
        ({"at": -1.0}, "at"),
        ({"stopped_at": 1e12}, "stoppedAt"),
        ({"pull_started_at": float("nan")}, "pullStartedAt"),
        ({"stop_code": "s" * 65}, "stopCode"),
        ({"containers": [container()] * 101}, "containers"),
        ({"attachments": [AttachmentChange(id="a", status="GONE")]}, "attachments[0].status"),
        (
            {
                "attachments": [
                    AttachmentChange(
                        id="a", status="ATTACHED", details={str(n): "" for n in range(33)}
                    )
                ]
            },
            "attachments[0].details",
        ),
    ],
)
def test_a_report_that_cannot_be_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(OutOfBounds) as caught:
        report_rules.check(change(**changes))
    assert str(caught.value).startswith(field)


def test_a_refused_report_takes_none_of_its_batch_with_it() -> None:
    bad = change(id="bad", of_container={"image_digest": "d" * 5 * MIB})
    body = msgspec.json.encode(Changes(changes=[change(id="1"), bad, change(id="2")]))
    first, refused, last = reports.read(body)
    assert isinstance(first, TaskChange)
    assert isinstance(last, TaskChange)
    assert isinstance(refused, ChangeAnswer)
    assert (refused.id, refused.status) == ("bad", "rejected")
    assert "imageDigest" in refused.message
    assert len(refused.message) <= 300


def padded(head: bytes, item: bytes, tail: bytes) -> bytes:
    """Return a document of 8 MiB that repeats an item."""
    count = (8 * MIB - len(head) - len(tail)) // (len(item) + 1)
    return head + b",".join([item] * count) + tail


REPORT = b'{"changes":[{"id":"a","taskArn":"a","status":"RUNNING","at":1,'


REPORT_OF_ONE = REPORT + b'"containers":[{"containerName":"a","status":"RUNNING",'


@pytest.mark.parametrize(
    ("read", "head", "item", "tail"),
    [
        (reports.read, b'{"changes":[', b"{}", b"]}"),
        (reports.read, REPORT_OF_ONE + b'"networkBindings":[', b"{}", b"]}]}]}"),
        (reports.read, REPORT + b'"containers":[', b"{}", b"]}]}"),
        (held.read, b'{"tasks":[', b"{}", b"]}"),
        (messages.read_usage, b'{"tasks":[', b"{}", b"]}"),
        (messages.read_registration, b'{"knownTasks":[', b'""', b"]}"),
        (messages.read_registration, b'{"resources":{"gpus":[', b'{"uuid":""}', b"]}}"),
    ],
    ids=["changes", "bindings", "containers", "held", "usage", "tasks", "gpus"],
)
def test_what_is_listed_is_counted_before_it_is_built(
    read: Any, head: bytes, item: bytes, tail: bytes
) -> None:
    body = padded(head, item, tail)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=r"items in one list|values in one message"):
            read(body)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MIB


def test_a_large_honest_batch_is_taken() -> None:
    batch = [change(id=str(n), containers=[container()] * 10) for n in range(1000)]
    body = msgspec.json.encode(Changes(changes=batch[:200]))
    assert len(reports.read(body)) == 200
    few = msgspec.json.encode(Changes(changes=[change(id=str(n)) for n in range(1000)]))
    assert len(reports.read(few)) == 1000


def test_usage() -> None:
    values = StatisticSet(0.0, 99.5, 199.0, 4)
    task = TaskUsage(task_arn=ARN, cpu_units=values, read_bytes=5)
    usage = Usage(host=HostUsage(cpu_units=values), tasks=[task] * 500)
    usage_rules.check(usage)
    usage_rules.look(msgspec.json.encode(usage))
    for wrong in (
        msgspec.structs.replace(task, read_bytes=-1),
        msgspec.structs.replace(task, task_arn="n" * 513),
        msgspec.structs.replace(task, cpu_units=StatisticSet(-1.0, 1.0, 0.0, 1)),
        msgspec.structs.replace(task, memory_bytes=StatisticSet(0.0, 1.0, 1.0, 0)),
    ):
        with pytest.raises(OutOfBounds):
            usage_rules.check(Usage(tasks=[wrong]))


def payload(**more: Any) -> TaskPayload:
    values: dict[str, Any] = {
        "arn": ARN,
        "family": "web",
        "version": "3",
        "containers": [Container(name="main", image="web:1", cpu=256, memory=128)],
    }
    return TaskPayload(**(values | more))


def decoded(payload: TaskPayload) -> TaskPayload:
    return payload_model.decode(payload_model.encode(payload))


def test_a_held_task_is_taken() -> None:
    report_rules.check_payload(decoded(payload()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"family": "we\x1bb"},
        {"family": "f" * 256},
        {"version": "9" * 10},
        {"group": "g\n"},
        {"cpu": -4.0},
        {"memory": -1},
        {"launch_type": "MOON"},
        {"containers": [Container(name="main", image="i\x1b")]},
        {"containers": [Container(name="ma in", image="i")]},
        {"containers": [Container(name="main", image="i", cpu=-5)]},
        {"containers": [Container(name="main", image="i", memory=2**40)]},
        {
            "containers": [
                Container(
                    name="main",
                    image="i",
                    docker_config=EngineConfig(host_config='{"MemoryReservation":-1099511627776}'),
                )
            ]
        },
        {
            "containers": [
                Container(name="main", image="i", port_mappings=[PortMapping(host_port=2**40)])
            ]
        },
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_held_task_that_would_break_placement_or_a_reader_is_refused(wrong: Any) -> None:
    with pytest.raises(OutOfBounds):
        report_rules.check_payload(decoded(payload(**wrong)))
