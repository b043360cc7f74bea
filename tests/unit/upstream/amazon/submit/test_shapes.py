"""Reports as Amazon ECS is told of them: names, cuts, what is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.changes import (
    AttachmentChange,
    ContainerChange,
    ManagedAgentChange,
    NetworkInterface,
    TaskChange,
)
from agent.model.status import Health
from agent.model.task import NetworkBinding
from agent.upstream.amazon.submit.shapes import EcsCall, ReportFormat, call_of, cut

TASK = "arn:aws:ecs:us-east-1:123456789012:task/default/0123456789abcdef0123456789abcdef"
ENI = "arn:aws:ecs:us-east-1:123456789012:attachment/abc"
AMAZON = ReportFormat("default")
OURS = ReportFormat("default", ours=True)


def change(status: str = "RUNNING", **fields: object) -> TaskChange:
    made: TaskChange = TaskChange(
        **{"id": "c1", "task_arn": TASK, "status": status, "at": 5.0, **fields}  # type: ignore[arg-type]
    )
    return made


def test_tells_the_whole_of_a_task() -> None:
    told = change(
        "STOPPED",
        reason="Essential container in task exited",
        stop_code="EssentialContainerExited",
        pull_started_at=1746802078.0314,
        pull_stopped_at=1746802079.5,
        started_at=1746802080.0,
        stopping_at=1746802081.0,
        execution_stopped_at=1746802081.25,
        stopped_at=1746802082.0,
        containers=[
            ContainerChange(
                container_name="app",
                status="STOPPED",
                container_arn="arn:container",
                runtime_id="f" * 64,
                image_digest="sha256:1",
                exit_code=0,
                reason="OutOfMemoryError: Container killed due to memory usage",
                health_status=Health.HEALTHY,
                restart_count=4,
                managed_agents=[ManagedAgentChange(name="ExecuteCommandAgent", status="CREATED")],
            ),
            ContainerChange(container_name="waits", status="PENDING"),
            ContainerChange(container_name="pulled", status="PENDING", image_digest="sha256:2"),
        ],
        attachments=[AttachmentChange(id=ENI, status="ATTACHED")],
    )
    assert call_of(told, AMAZON) == EcsCall(
        "SubmitTaskStateChange",
        {
            "cluster": "default",
            "task": TASK,
            "status": "STOPPED",
            "reason": "Essential container in task exited",
            "pullStartedAt": 1746802078.031,
            "pullStoppedAt": 1746802079.5,
            "executionStoppedAt": 1746802081.25,
            "containers": [
                {
                    "containerName": "app",
                    "status": "STOPPED",
                    "runtimeId": "f" * 64,
                    "imageDigest": "sha256:1",
                    "exitCode": 0,
                    "reason": "OutOfMemoryError: Container killed due to memory usage",
                },
                {"containerName": "pulled", "status": "PENDING", "imageDigest": "sha256:2"},
            ],
            "managedAgents": [
                {
                    "containerName": "app",
                    "managedAgentName": "ExecuteCommandAgent",
                    "status": "CREATED",
                    "reason": "",
                }
            ],
        },
    )


def test_leaves_out_what_is_absent() -> None:
    call = call_of(change(pull_started_at=float("nan")), AMAZON)
    assert call is not None
    assert call.request == {"cluster": "default", "task": TASK, "status": "RUNNING", "reason": ""}


def test_a_pending_task_is_told_only_with_something_to_tell() -> None:
    waits = ContainerChange(container_name="a", status="PENDING")
    assert call_of(change("PENDING"), AMAZON) is None
    assert call_of(change("PENDING", containers=[waits]), AMAZON) is None
    runs = ContainerChange(container_name="b", status="RUNNING")
    call = call_of(change("PENDING", containers=[waits, runs]), AMAZON)
    assert call is not None
    assert call.request["containers"] == [{"containerName": "b", "status": "RUNNING"}]
    network = AttachmentChange(id="eni-1", status="ATTACHED")
    assert call_of(change("PENDING", attachments=[network]), AMAZON) is None
    assert call_of(change("PENDING", attachments=[network]), OURS) is not None


def bound(*bindings: NetworkBinding, wire: ReportFormat = AMAZON) -> object:
    container = ContainerChange(
        container_name="a", status="RUNNING", network_bindings=list(bindings)
    )
    call = call_of(change(containers=[container]), wire)
    assert call is not None
    return call.request["containers"][0].get("networkBindings")


def test_bindings_of_single_ports_and_ranges() -> None:
    one = NetworkBinding(container_port=80, host_port=32768)
    many = NetworkBinding(container_port_range="80-90", host_port_range="1-11", protocol="udp")
    assert bound(one, many) == [
        {"bindIP": "0.0.0.0", "protocol": "tcp", "containerPort": 80, "hostPort": 32768},
        {
            "bindIP": "0.0.0.0",
            "protocol": "udp",
            "containerPortRange": "80-90",
            "hostPortRange": "1-11",
        },
    ]


def test_bindings_on_ipv6_go_unless_they_are_wanted() -> None:
    six = NetworkBinding(bind_ip="::", container_port=80, host_port=32768)
    assert bound(six) is None
    assert bound(six, wire=ReportFormat("default", exclude_ipv6=False)) == [
        {"bindIP": "::", "protocol": "tcp", "containerPort": 80, "hostPort": 32768}
    ]


def test_more_bindings_than_ecs_takes_do_not_spoil_the_report() -> None:
    single = [NetworkBinding(container_port=n, host_port=n) for n in range(1, 151)]
    ranged = NetworkBinding(container_port_range="80-90", host_port_range="1-11")
    assert len(bound(*single) or []) == 150  # type: ignore[arg-type]
    assert len(bound(ranged, *single) or []) == 100  # type: ignore[arg-type]


def test_attachments_alone() -> None:
    there = AttachmentChange(id=ENI, status="ATTACHED")
    gone = AttachmentChange(id="arn:other", status="DELETED")
    attached = [{"attachmentArn": ENI, "status": "ATTACHED"}]
    assert call_of(change("", attachments=[there, gone]), AMAZON) == EcsCall(
        "SubmitTaskStateChange", {"cluster": "default", "task": TASK, "attachments": attached}
    )
    assert call_of(change("", task_arn="", attachments=[there]), AMAZON) == EcsCall(
        "SubmitAttachmentStateChanges", {"cluster": "default", "attachments": attached}
    )
    assert call_of(change("", attachments=[gone]), AMAZON) is None


def test_our_own_control_is_told_of_addresses() -> None:
    interface = NetworkInterface(attachment_id="eni-1", private_ipv4_address="172.31.0.2")
    told = change(
        containers=[
            ContainerChange(container_name="a", status="RUNNING", network_interfaces=[interface])
        ],
        attachments=[
            AttachmentChange(id="eni-1", status="DELETED", details={"macAddress": "0a:00"})
        ],
    )
    amazon, ours = call_of(told, AMAZON), call_of(told, OURS)
    assert amazon is not None
    assert ours is not None
    assert "attachments" not in amazon.request
    assert "networkInterfaces" not in amazon.request["containers"][0]
    assert ours.request["containers"][0]["networkInterfaces"] == [
        {"attachmentId": "eni-1", "privateIpv4Address": "172.31.0.2"}
    ]
    assert ours.request["attachments"] == [
        {
            "attachmentArn": "eni-1",
            "status": "DELETED",
            "type": "ElasticNetworkInterface",
            "details": [{"name": "macAddress", "value": "0a:00"}],
        }
    ]


def test_only_our_own_control_is_told_why_a_container_does_not_come_up() -> None:
    """Amazon's agent gives no reason before the end; ours is told, and told that it has passed."""
    text = "CannotPullContainerError: connection refused"
    failing = ContainerChange(container_name="a", status="PENDING", reason=text)
    known = ContainerChange(
        container_name="a", status="PENDING", reason=text, image_digest="sha256:1"
    )
    passed = ContainerChange(container_name="a", status="PENDING")
    assert call_of(change("PENDING", containers=[failing]), AMAZON) is None
    amazon = call_of(change("PENDING", containers=[known]), AMAZON)
    assert amazon is not None
    assert "reason" not in amazon.request["containers"][0]
    for told, reason in ((failing, text), (passed, "")):
        ours = call_of(change("PENDING", containers=[told]), OURS)
        assert ours is not None
        assert ours.request["containers"][0].get("reason", "") == reason


def test_long_texts_are_cut_by_bytes() -> None:
    long = "ä" * 2000
    told = change(
        reason="x" + long,
        containers=[
            ContainerChange(
                container_name="a",
                status="STOPPED",
                runtime_id="r" * 300,
                image_digest="d" * 300,
                reason=long,
                managed_agents=[ManagedAgentChange(name="m", status="STOPPED", reason=long)],
            )
        ],
    )
    call = call_of(told, AMAZON)
    assert call is not None
    assert call.request["reason"] == "x" + "ä" * 511
    (container,) = call.request["containers"]
    assert container["reason"] == "ä" * 512
    assert (len(container["runtimeId"]), len(container["imageDigest"])) == (255, 255)
    assert call.request["managedAgents"][0]["reason"] == "ä" * 512


@given(st.text(st.characters(), max_size=40), st.integers(0, 60))
def test_cut_keeps_whole_characters(text: str, limit: int) -> None:
    kept = cut(text, limit)
    raw = kept.encode()
    assert len(raw) <= limit
    whole = text.encode("utf-8", "replace").decode()
    assert whole.startswith(kept)
    if kept != whole:
        assert len(raw) + len(whole[len(kept)].encode()) > limit


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "STOPPED"])
def test_statuses_are_told_as_they_are(status: str) -> None:
    container = ContainerChange(container_name="a", status=status, image_digest="sha256:1")
    call = call_of(change(status, containers=[container]), AMAZON)
    assert call is not None
    assert (call.request["status"], call.request["containers"][0]["status"]) == (status, status)
