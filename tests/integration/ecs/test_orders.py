"""Every message that ECS sends, and what the agent does and answers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.backend import messages, oracle
from tests.backend.api import task_arn
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration


def test_heartbeats_are_answered(host: Host) -> None:
    assert host.backend.acs.beat() < 5


def test_a_task_with_every_field_runs(host: Host) -> None:
    script = 'test "$ODD" = \'a "quoted" ✓ text\' && ! touch /file && exit 5'
    task = messages.everything(host.image, "sh", "-c", script)
    host.backend.acs.wait_ack(host.order(task))
    host.wait(task["arn"], "STOPPED")
    last = oracle.last_of_containers(host.backend.reports(), task["arn"])["app"]
    assert last["exitCode"] == 5, last


def test_redelivery_changes_nothing_and_is_acknowledged(host: Host) -> None:
    acs, task = host.backend.acs, host.task()
    seq = host.next_seq()
    order = host.order(task, seq=seq)
    acs.wait_ack(order)
    host.wait(task["arn"], "RUNNING")
    before = host.pid(task["arn"])
    host.order(task, seq=seq, messageId=order)
    acs.wait_ack(order, count=2)
    acs.wait_ack(host.order(task))
    assert host.pid(task["arn"]) == before
    assert len(host.containers(task["arn"])) == 1
    # Back from STOPPED to RUNNING there is no way.
    host.stop_task(task["arn"])
    acs.wait_ack(host.order(task))
    assert host.containers(task["arn"], only_running=True) == []


def test_sequence_numbers_may_go_backwards(host: Host) -> None:
    host._seq += 1000
    first = host.run_task()
    second = host.task()
    host.backend.acs.wait_ack(host.order(second, seq=3))
    host.wait(second["arn"], "RUNNING")
    for arn in (first, second["arn"]):
        host.stop_task(arn)


def test_an_unknown_task_that_is_to_stop_is_reported_stopped(host: Host) -> None:
    arn = task_arn()
    host.backend.acs.wait_ack(host.order(messages.stop(arn)))
    host.wait(arn, "STOPPED")


def test_one_broken_task_is_reported_and_holds_up_no_other(host: Host) -> None:
    broken = host.task()
    broken["containers"][0]["overrides"] = json.dumps({"surprise": 1})
    good = host.task("true")
    host.backend.acs.wait_ack(host.order(broken, good))
    report = host.wait(broken["arn"], "STOPPED").request
    assert report["reason"].startswith("UnrecogniedTaskError: Error loading task - ")
    assert "containers" not in report
    host.wait(good["arn"], "STOPPED")


def test_a_task_without_a_name_leaves_the_message_unacknowledged(host: Host) -> None:
    good = host.task("true")
    nameless = host.task("true")
    del nameless["arn"]
    order = host.order(nameless, good)
    host.wait(good["arn"], "STOPPED")
    host.backend.acs.beat()
    assert host.backend.acs.acks(order) == []


@pytest.mark.parametrize("missing", ["messageId", "clusterArn", "containerInstanceArn"])
def test_a_payload_that_cannot_be_answered_is_dropped(host: Host, missing: str) -> None:
    task = host.task("true")
    before = len(host.backend.acs.frames("AckRequest"))
    host.order(task, **{missing: ""})
    host.backend.acs.beat()
    time.sleep(0.2)
    assert len(host.backend.acs.frames("AckRequest")) == before
    assert host.backend.reports(task["arn"]) == []


def test_credentials_are_acknowledged_and_never_written(host: Host) -> None:
    acs = host.backend.acs
    marks = ["canary-7f3a-application", "canary-7f3a-execution", "canary-7f3a-renewed"]
    application, execution = (messages.credentials(m) for m in marks[:2])
    task = host.task(roleCredentials=application, executionRoleCredentials=execution)
    order = host.order(task)
    acs.wait_ack(order)
    for given in (application, execution):
        acs.wait_frame(
            "IAMRoleCredentialsAckRequest",
            where=lambda f, c=given["credentialsId"]: f.message["credentialsId"] == c,  # type: ignore[misc]
        )
    host.wait(task["arn"], "RUNNING")
    renewed = messages.credentials(marks[2], expiration="2037-01-01T00:00:00.000+0000")
    for role in ("TaskApplication", "TaskExecution"):
        order = _renew(host, task["arn"], renewed, role)
        answer = acs.wait_frame(
            "IAMRoleCredentialsAckRequest",
            where=lambda f, o=order: f.message["messageId"] == o,  # type: ignore[misc]
        )
        assert answer.message["expiration"] == renewed["expiration"]
    host.stop_task(task["arn"])
    held = host.log().encode()
    for path in host.agent.directory.glob(f"{host.agent.name}-data/**/*"):
        if path.is_file():
            held += path.read_bytes()
    assert b"canary-7f3a" not in held


def _renew(host: Host, arn: str, credentials: dict[str, Any], role: str) -> str:
    return host.backend.acs.order(
        "IAMRoleCredentialsMessage",
        taskArn=arn,
        taskClusterArn=None,
        clusterArn=None,
        containerInstanceArn=None,
        roleType=role,
        roleCredentials=credentials,
    )


def test_credentials_of_nobody_are_not_acknowledged(host: Host) -> None:
    acs = host.backend.acs
    [kept] = host.kept
    good = messages.credentials("x")
    orders = {
        _renew(host, task_arn(), good, "TaskApplication"),
        _renew(host, kept, good, "TaskSomething"),
        _renew(host, "", good, "TaskApplication"),
        _renew(host, kept, {**good, "credentialsId": ""}, "TaskApplication"),
    }
    acs.beat()
    time.sleep(0.2)
    answered = {f.message["messageId"] for f in acs.frames("IAMRoleCredentialsAckRequest")}
    assert not answered & orders


def test_a_manifest_asks_before_it_stops(host: Host) -> None:
    acs = host.backend.acs
    extra = host.run_task()
    order = host.manifest(extra)
    acs.wait_ack(order)
    acs.beat()
    assert acs.frames("TaskStopVerificationMessage") == []

    order = host.manifest()
    acs.wait_ack(order)
    asked = acs.wait_frame("TaskStopVerificationMessage")
    assert asked.message["messageId"] == order
    assert [c["taskArn"] for c in asked.message["stopCandidates"]] == [extra]

    _verify(host, "of-another-manifest", extra)
    acs.beat()
    assert host.containers(extra, only_running=True)
    _verify(host, order, extra, task_arn())
    host.wait(extra, "STOPPED")
    # The same again is of no manifest: it must not stop what a later order brought.
    _verify(host, order, *host.kept)
    acs.beat()
    assert host.containers(host.kept[0], only_running=True)


def _verify(host: Host, message_id: str, *arns: str) -> None:
    host.backend.acs.send(
        "TaskStopVerificationAck",
        {
            "messageId": message_id,
            "generatedAt": 1,
            "stopTasks": [messages.listed(a, "STOPPED") for a in arns],
        },
    )


def test_an_old_manifest_is_discarded(host: Host) -> None:
    acs = host.backend.acs
    newest = host.next_seq()
    acs.wait_ack(host.manifest(timeline=newest))
    stale = [host.manifest(timeline=t) for t in (newest, newest - 1, -1)]
    acs.beat()
    time.sleep(0.2)
    assert [acs.acks(s) for s in stale] == [[], [], []]
    # A payload's number counts as well.
    host.order(host.task("true"), seq=newest + 10)
    host._seq = newest + 10
    older = host.manifest(timeline=newest + 5)
    acs.beat()
    assert acs.acks(older) == []


@contextlib.contextmanager
def _link(name: str, mac: str) -> Iterator[None]:
    """Put a link with a MAC address on the host, as EC2 does when it attaches an interface."""
    added = ["ip", "link", "add", name, "address", mac, "type", "veth", "peer", "name", f"{name}p"]
    subprocess.run(added, check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


def test_an_interface_of_the_instance_is_reported_when_it_comes(host: Host) -> None:
    interface = messages.interface("0a:77:00:00:00:01")
    order = host.backend.acs.order(
        "AttachInstanceNetworkInterfacesMessage", **messages.attach(interface)
    )
    host.backend.acs.wait_ack(order)
    assert host.backend.journal.calls("SubmitAttachmentStateChanges") == []
    with _link("ecst-eni1", interface["macAddress"]):
        [call] = host.backend.wait_calls("SubmitAttachmentStateChanges")
    assert call.request["attachments"] == [
        {"attachmentArn": interface["attachmentArn"], "status": "ATTACHED"}
    ]


def test_an_interface_of_a_task_is_reported_when_it_comes(host: Host) -> None:
    interface = messages.interface("0a:77:00:00:00:02")
    [kept] = host.kept
    with _link("ecst-eni2", interface["macAddress"]):
        order = host.backend.acs.order(
            "AttachTaskNetworkInterfacesMessage", **messages.attach(interface, arn=kept)
        )
        host.backend.acs.wait_ack(order)
        call = host.backend.journal.wait(
            lambda: next(
                (c for c in host.backend.reports(kept) if "attachments" in c.request), None
            ),
            what="the attachment's report",
        )
    assert call is not None
    assert call.request["attachments"][0]["attachmentArn"] == interface["attachmentArn"]


@pytest.mark.parametrize(
    "change",
    [
        {"waitTimeoutMs": 0},
        {"elasticNetworkInterfaces": []},
        {"elasticNetworkInterfaces": [messages.interface("")]},
        {"elasticNetworkInterfaces": [messages.interface(ec2Id=None)]},
        {"elasticNetworkInterfaces": [messages.interface(ipv4Addresses=[])]},
        {"elasticNetworkInterfaces": [messages.interface(subnetGatewayIpv4Address="10.7.0.1")]},
        {"elasticNetworkInterfaces": [messages.interface(interfaceAssociationProtocol="gre")]},
        {"elasticNetworkInterfaces": [messages.interface(interfaceAssociationProtocol="vlan")]},
        {"clusterArn": ""},
    ],
)
def test_an_interface_that_cannot_be_is_dropped(host: Host, change: dict[str, Any]) -> None:
    fields = {**messages.attach(messages.interface("0a:77:00:00:00:03")), **change}
    order = host.backend.acs.order("AttachInstanceNetworkInterfacesMessage", **fields)
    host.backend.acs.beat()
    assert host.backend.acs.acks(order) == []


def test_a_volume_is_awaited_and_acknowledged(host: Host) -> None:
    acs = host.backend.acs
    acs.wait_ack(acs.order("ConfirmAttachmentMessage", **messages.confirm(messages.volume())))
    legacy = messages.volume()
    legacy["attachmentType"] = "other"
    legacy["attachmentProperties"] = [
        {"name": n, "value": v}
        for n, v in {
            "resourceType": "ElasticBlockStorage",
            "volumeID": "vol-1",
            "deviceName": "/dev/sdc",
        }.items()
    ]
    acs.wait_ack(acs.order("ConfirmAttachmentMessage", **messages.confirm(legacy)))
    for wrong in (
        messages.volume(volumeId=""),
        messages.volume(fileSystem="fat"),
        {**messages.volume(), "attachmentArn": "no-arn"},
    ):
        order = acs.order("ConfirmAttachmentMessage", **messages.confirm(wrong))
        acs.beat()
        assert acs.acks(order) == []


@pytest.mark.parametrize("type_", ["StageUpdateMessage", "PerformUpdateMessage"])
def test_updates_are_refused_politely(host: Host, type_: str) -> None:
    order = host.backend.acs.order(type_, **messages.update())
    assert host.backend.acs.wait_nack(order).message["reason"] == "Updates are disabled"


@pytest.mark.parametrize(
    "type_",
    [
        "CloseMessage",
        "ErrorMessage",
        "ServerException",
        "BadRequestException",
        "InvalidClusterException",
        "InvalidInstanceException",
        "AccessDeniedException",
        "TaskProtectionMessage",
    ],
)
def test_messages_without_an_answer_have_none(host: Host, type_: str) -> None:
    acs = host.backend.acs
    number, before = acs.wait_open().number, len(acs.frames())
    acs.send(type_, {"message": "said the server"})
    acs.beat()
    assert [f.type for f in acs.frames()[before:]] == ["HeartbeatAckRequest"]
    assert acs.wait_open().number == number


def test_many_tasks_in_one_message(host: Host) -> None:
    tasks = [host.task("true") for _ in range(6)]
    host.backend.acs.wait_ack(host.order(*tasks))
    for task in tasks:
        host.wait(task["arn"], "STOPPED")
    eventually(lambda: len(host.agent.json("tasks")) == 1, what="only the kept task is left")
