"""Every kind of order over a real connection: what is done, what is answered, and in which order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.errors import StateFailure
from agent.model import payload as payloads
from agent.upstream.amazon.registration import MANIFEST_SEQ
from tests.support.acs_host import CLUSTER, INSTANCE, ORIGIN, SETTINGS, AcsHost, arn, task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.state import StateStore
    from tests.support.ws_server import Peer

    Script = Callable[[Peer], Awaitable[None]]

ACK = {"cluster": CLUSTER, "containerInstance": INSTANCE}
ROLE = {
    "credentialsId": "cred-1",
    "accessKeyId": "AKIA",
    "secretAccessKey": "canary-secret",
    "sessionToken": "canary-token",
    "roleArn": "arn:aws:iam::123456789012:role/r",
    "expiration": "2016-03-25T06:17:19.318+0000",
}
ENI = {
    "attachmentArn": "arn:aws:ecs:eu-west-1:123456789012:attachment/a",
    "ec2Id": "eni-1",
    "macAddress": "0A:1B:2C:3D:4E:5F",
    "ipv4Addresses": [
        {"primary": False, "privateAddress": "10.0.0.8"},
        {"primary": True, "privateAddress": "10.0.0.7"},
    ],
    "subnetGatewayIpv4Address": "10.0.0.1/24",
    "privateDnsName": "ip-10-0-0-7",
}
EBS = {
    "volumeId": "vol-1",
    "volumeSizeGib": "10",
    "deviceName": "/dev/xvdba",
    "sourceVolumeHostPath": "/mnt/x",
    "volumeName": "v",
    "fileSystem": "xfs",
}


async def play(host: AcsHost, script: Script, **settings: Any) -> None:
    """Run one connection by a script of the server, to its end."""
    done = asyncio.Event()

    async def whole(peer: Peer) -> None:
        if done.is_set():
            await peer.hear(30.0)
            return
        try:
            await script(peer)
        finally:
            done.set()

    host.server.plays = [whole]
    async with host.running(SETTINGS, **settings), asyncio.timeout(10):
        await done.wait()


def told(peer_orders: list[dict[str, Any]], **message: Any) -> dict[str, Any]:
    return ORIGIN | {"messageId": "m-1", "tasks": peer_orders} | message


async def test_a_task_is_acknowledged_once_it_is_durable(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        host.tasks.gate.clear()
        await peer.say("PayloadMessage", **told([task("a")], seqNum=3))
        await host.tasks.taking.wait()
        assert await peer.silence()
        host.tasks.gate.set()
        assert await peer.hear() == ("AckRequest", ACK | {"messageId": "m-1"})

    await play(host, script)
    [(assignments, control_id)] = host.tasks.taken
    assert (assignments.revision, assignments.full, control_id) == (0, False, INSTANCE)
    [order] = assignments.tasks
    assert (order.task_arn, order.desired_status) == (arn("a"), "RUNNING")
    assert payloads.decode(order.payload).containers[0].image == "img"


async def test_heartbeats_are_answered_while_an_order_takes_long(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        host.tasks.gate.clear()
        await peer.say("PayloadMessage", **told([task("a")]))
        await host.tasks.taking.wait()
        for n in range(3):
            await peer.say("HeartbeatMessage", messageId=f"h-{n}", healthy=True)
            assert await peer.hear() == ("HeartbeatAckRequest", {"messageId": f"h-{n}"})
        host.tasks.gate.set()
        assert (await peer.hear())[0] == "AckRequest"

    await play(host, script)
    assert host.heartbeats == 3


async def test_orders_are_carried_out_in_the_order_in_which_they_came(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        for n in range(20):
            await peer.say("PayloadMessage", **told([task(str(n))], messageId=f"m-{n}"))
        answers = [await peer.hear() for _ in range(20)]
        assert [message["messageId"] for _, message in answers] == [f"m-{n}" for n in range(20)]

    await play(host, script)
    assert [order.task_arn for order in host.tasks.orders] == [arn(str(n)) for n in range(20)]


async def test_what_cannot_be_written_down_is_not_acknowledged_and_may_come_again(
    host: AcsHost,
) -> None:
    async def script(peer: Peer) -> None:
        host.tasks.failure = StateFailure("disk full")
        for _ in range(3):
            await peer.say("PayloadMessage", **told([task("a", roleCredentials=ROLE)]))
        assert await peer.silence()
        assert "disk full" in host.session.trouble
        host.tasks.failure = None
        await peer.say("PayloadMessage", **told([task("a", roleCredentials=ROLE)]))
        assert (await peer.hear())[0] == "AckRequest"
        assert (await peer.hear())[0] == "IAMRoleCredentialsAckRequest"
        assert not host.session.trouble
        await peer.say("PayloadMessage", **told([task("a")], messageId="again"))
        assert await peer.hear() == ("AckRequest", ACK | {"messageId": "again"})

    with capture_logs() as lines:
        await play(host, script)
    assert [line["event"] for line in lines if "taken" in line["event"]] == [
        "orders could not be taken; they will be sent again"
    ]
    assert "canary" not in str(lines)


async def test_a_bug_of_ours_neither_acknowledges_nor_ends_anything(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        host.tasks.failure = KeyError("oops")
        await peer.say("PayloadMessage", **told([task("a")]))
        assert await peer.silence()
        host.tasks.failure = None
        await peer.say("PayloadMessage", **told([task("a")]))
        assert (await peer.hear())[0] == "AckRequest"

    await play(host, script)


async def test_a_task_that_trips_the_engine_holds_up_no_other(host: AcsHost) -> None:
    names = [str(n) for n in range(9)]
    host.tasks.poison = {arn("4")}

    async def script(peer: Peer) -> None:
        await peer.say("PayloadMessage", **told([task(name) for name in names]))
        assert await peer.silence()
        assert "poison" in host.session.trouble

    await play(host, script)
    others = [arn(name) for name in names if name != "4"]
    assert [order.task_arn for order in host.tasks.orders] == others


async def test_credentials_of_a_payload_are_kept_before_the_task_and_acknowledged_after(
    host: AcsHost,
) -> None:
    async def script(peer: Peer) -> None:
        execution = ROLE | {"credentialsId": "cred-2"}
        one = task("a", roleCredentials=ROLE, executionRoleCredentials=execution)
        host.tasks.gate.clear()
        await peer.say("PayloadMessage", **told([one]))
        await host.tasks.taking.wait()
        kept = host.keep.get("cred-1")
        assert kept is not None
        assert kept.secret_access_key == "canary-secret"  # noqa: S105
        assert host.keep.role_type("cred-2") == "TaskExecution"
        host.tasks.gate.set()
        assert (await peer.hear())[0] == "AckRequest"
        acks = [await peer.hear() for _ in range(2)]
        assert acks == [
            (
                "IAMRoleCredentialsAckRequest",
                {"messageId": "m-1", "credentialsId": name, "expiration": ROLE["expiration"]},
            )
            for name in ("cred-1", "cred-2")
        ]

    await play(host, script)


@pytest.mark.parametrize(
    ("word", "desired"),
    [
        ("RUNNING", "RUNNING"),
        ("CREATED", "RUNNING"),
        ("NONE", "RUNNING"),
        ("UNKNOWN", "RUNNING"),
        ("MANIFEST_PULLED", "RUNNING"),
        (None, "RUNNING"),
        ("STOPPED", "STOPPED"),
        ("DEAD", "STOPPED"),
    ],
)
async def test_desired_statuses_old_and_new(host: AcsHost, word: str | None, desired: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("PayloadMessage", **told([task("a", desiredStatus=word, memory=None)]))
        assert (await peer.hear())[0] == "AckRequest"

    await play(host, script)
    [order] = host.tasks.orders
    assert order.desired_status == desired
    if desired == "RUNNING":
        assert payloads.decode(order.payload).desired_status == "RUNNING"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"desiredStatus": "MAYBE"}, 'desiredStatus "MAYBE" is unknown'),
        ({"desiredStatus": 7}, "desiredStatus 7 is unknown"),
        (
            {"elasticNetworkInterfaces": [ENI | {"ipv4Addresses": None}]},
            "eni message validation: no ipv4 addresses in the message",
        ),
    ],
)
async def test_a_task_that_cannot_be_read_is_reported_and_the_others_run(
    host: AcsHost, changes: dict[str, Any], reason: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("PayloadMessage", **told([task("bad", **changes), task("good")]))
        assert (await peer.hear())[0] == "AckRequest"

    await play(host, script)
    bad, good = host.tasks.orders
    assert (bad.desired_status, bad.stop_code) == ("STOPPED", "TaskFailedToStart")
    assert bad.stopped_reason == f"UnrecogniedTaskError: Error loading task - {reason}"
    assert good.desired_status == "RUNNING"


async def test_a_broken_copy_of_the_order_does_not_stop_a_running_task(host: AcsHost) -> None:
    host.tasks.held[arn("a")] = "RUNNING"

    async def script(peer: Peer) -> None:
        await peer.say("PayloadMessage", **told([task("a", desiredStatus="MAYBE")]))
        assert (await peer.hear())[0] == "AckRequest"

    await play(host, script)
    assert host.tasks.wanted("") == [arn("a")]
    assert not host.tasks.taken


@pytest.mark.parametrize(
    "message",
    [
        told([task("a")], messageId=""),
        told([task("a")], clusterArn=None),
        told([task("a")], containerInstanceArn=7),
        told([task("a")]) | {"tasks": "all"},
    ],
)
async def test_a_payload_that_does_not_say_whose_it_is_is_dropped(
    host: AcsHost, message: dict[str, Any]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("PayloadMessage", **message)
        assert await peer.silence()

    await play(host, script)
    assert not host.tasks.taken


async def test_a_task_without_a_name_leaves_the_message_unanswered(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("PayloadMessage", **told([{"family": "f"}, 7, None, task("good")]))  # type: ignore[list-item]
        assert await peer.silence()

    await play(host, script)
    assert [order.task_arn for order in host.tasks.orders] == [arn("good")]


async def test_new_credentials_are_kept_and_acknowledged_for_a_task_that_is_here(
    host: AcsHost,
) -> None:
    host.tasks.held[arn("a")] = "RUNNING"
    message = {"messageId": "c-1", "roleType": "TaskApplication", "roleCredentials": ROLE}

    async def script(peer: Peer) -> None:
        await peer.say("IAMRoleCredentialsMessage", **message, taskArn=arn("gone"))
        broken: dict[str, Any]
        for broken in ({"roleType": "King"}, {"roleCredentials": {}}, {"messageId": ""}):
            await peer.say("IAMRoleCredentialsMessage", **(message | broken), taskArn=arn("a"))
        await peer.say("IAMRoleCredentialsMessage", **message, taskArn=arn("a"))
        assert await peer.hear() == (
            "IAMRoleCredentialsAckRequest",
            {"messageId": "c-1", "credentialsId": "cred-1", "expiration": ROLE["expiration"]},
        )
        assert await peer.silence()

    with capture_logs() as lines:
        await play(host, script)
    assert host.keep.get("cred-1") is not None
    assert len([line for line in lines if line["event"] == "orders that cannot be acted on"]) == 1
    assert "canary" not in str(lines)


async def test_credentials_of_a_task_that_is_not_here_are_kept_and_not_acknowledged(
    host: AcsHost,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(
            "IAMRoleCredentialsMessage",
            messageId="c-1",
            taskArn=arn("later"),
            roleType="TaskExecution",
            roleCredentials=ROLE,
        )
        assert await peer.silence()

    await play(host, script)
    assert host.keep.get("cred-1") is not None


def manifest(timeline: Any, *running: str, **changes: Any) -> dict[str, Any]:
    listed = [
        {"taskArn": arn(name), "taskClusterArn": CLUSTER, "desiredStatus": "RUNNING"}
        for name in running
    ]
    return ORIGIN | {"messageId": f"t-{timeline}", "timeline": timeline, "tasks": listed} | changes


async def test_a_task_that_is_not_in_the_manifest_is_asked_after_and_then_stopped(
    host: AcsHost, store: StateStore
) -> None:
    host.tasks.held = {arn("a"): "RUNNING", arn("b"): "RUNNING", arn("old"): "STOPPED"}

    async def script(peer: Peer) -> None:
        await peer.say("TaskManifestMessage", **manifest(5, "a"))
        assert await peer.hear() == ("AckRequest", ACK | {"messageId": "t-5"})
        assert await peer.hear() == (
            "TaskStopVerificationMessage",
            {
                "messageId": "t-5",
                "stopCandidates": [
                    {"taskArn": arn("b"), "taskClusterArn": CLUSTER, "desiredStatus": "STOPPED"}
                ],
            },
        )
        stops = [{"taskArn": arn(name)} for name in ("b", "unknown", "b")]
        for message_id in ("", "other", "t-5", "t-5"):
            await peer.say("TaskStopVerificationAck", messageId=message_id, stopTasks=stops)
        await peer.say("HeartbeatMessage", messageId="h")
        await peer.hear()
        assert await peer.silence()

    await play(host, script)
    assert [(order.task_arn, order.desired_status) for order in host.tasks.orders] == [
        (arn("b"), "STOPPED")
    ]
    assert host.tasks.lists == 1
    assert await store.get_meta(MANIFEST_SEQ) == "5"


async def test_a_manifest_that_is_not_newer_is_not_answered(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("PayloadMessage", **told([task("a")], seqNum=7))
        assert (await peer.hear())[0] == "AckRequest"
        for old in (7, 6, 0, -1, None, "8", 10**30, 1.5, True):
            await peer.say("TaskManifestMessage", **manifest(old))
        assert await peer.silence()
        await peer.say("PayloadMessage", **told([task("b")], seqNum=2))
        assert (await peer.hear())[0] == "AckRequest"
        await peer.say("TaskManifestMessage", **manifest(8, "a", "b"))
        assert await peer.hear() == ("AckRequest", ACK | {"messageId": "t-8"})
        assert await peer.silence()

    await play(host, script)
    assert host.tasks.lists == 1


async def test_the_number_of_the_manifest_survives_a_restart(
    host: AcsHost, store: StateStore
) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("TaskManifestMessage", **manifest(5))
        assert (await peer.hear())[0] == "AckRequest"

    async def again(peer: Peer) -> None:
        await peer.say("TaskManifestMessage", **manifest(5))
        assert await peer.silence()
        await peer.say("TaskManifestMessage", **manifest(6))
        assert (await peer.hear())[0] == "AckRequest"

    await play(host, script)
    await play(AcsHost(store, host.server), again)


async def test_a_manifest_that_cannot_be_read_in_part_accuses_no_task(host: AcsHost) -> None:
    host.tasks.held = {arn("a"): "RUNNING", arn("b"): "RUNNING"}

    async def script(peer: Peer) -> None:
        odd = [{"taskArn": arn("b"), "desiredStatus": 7}, {"taskArn": arn("a")}]
        await peer.say("TaskManifestMessage", **manifest(5, tasks=odd))
        await peer.say("TaskManifestMessage", **manifest(6, tasks=[7, "x"]))
        answers = [await peer.hear() for _ in range(2)]
        assert [kind for kind, _ in answers] == ["AckRequest"] * 2
        assert await peer.silence()

    await play(host, script)


async def test_leftovers_stay_until_everything_that_is_wanted_has_come(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("TaskManifestMessage", **manifest(5, "late"))
        assert (await peer.hear())[0] == "AckRequest"
        assert host.tasks.lists == 0
        await peer.say("PayloadMessage", **told([task("late")]))
        assert (await peer.hear())[0] == "AckRequest"
        assert host.tasks.lists == 1

    await play(host, script)


async def test_leftovers_do_not_wait_for_what_is_over(host: AcsHost) -> None:
    """A control whose store has gone back lists tasks as running that have ended here."""
    host.tasks.over.add(arn("ended"))

    async def script(peer: Peer) -> None:
        await peer.say("TaskManifestMessage", **manifest(5, "ended", "refused"))
        assert (await peer.hear())[0] == "AckRequest"
        assert host.tasks.lists == 0
        host.tasks.over.add(arn("refused"))
        await peer.say("PayloadMessage", **told([task("refused") | {"desiredStatus": "STOPPED"}]))
        assert (await peer.hear())[0] == "AckRequest"
        assert host.tasks.lists == 1

    await play(host, script)


async def test_interfaces_are_expected_before_they_are_acknowledged(host: AcsHost) -> None:
    message = ORIGIN | {"messageId": "e-1", "waitTimeoutMs": 4000}

    async def script(peer: Peer) -> None:
        of_task = message | {"taskArn": arn("a"), "elasticNetworkInterfaces": [ENI]}
        await peer.say("AttachTaskNetworkInterfacesMessage", **of_task)
        assert await peer.hear() == ("AckRequest", ACK | {"messageId": "e-1"})
        [expected] = host.expected
        assert (expected.kind, expected.key) == ("task-eni", "0a:1b:2c:3d:4e:5f")
        assert (expected.task_arn, expected.expires_at) == (arn("a"), 1004.0)
        assert expected.attachment_arn == ENI["attachmentArn"]
        assert expected.details == {
            "networkInterfaceId": "eni-1",
            "macAddress": "0a:1b:2c:3d:4e:5f",
            "privateIPv4Address": "10.0.0.7",
            "privateDnsName": "ip-10-0-0-7",
        }
        of_host = message | {"elasticNetworkInterfaces": [ENI, ENI | {"macAddress": "2"}]}
        await peer.say("AttachInstanceNetworkInterfacesMessage", **of_host)
        assert (await peer.hear())[0] == "AckRequest"
        assert [one.kind for one in host.expected[1:]] == ["instance-eni"] * 2
        broken: dict[str, Any]
        for broken in (
            {"waitTimeoutMs": 0},
            {"elasticNetworkInterfaces": []},
            {"elasticNetworkInterfaces": [ENI, ENI | {"ec2Id": ""}]},
            {"elasticNetworkInterfaces": [ENI | {"attachmentArn": None}]},
            {"taskArn": ""},
            {"messageId": None},
        ):
            await peer.say("AttachTaskNetworkInterfacesMessage", **(of_task | broken))
        assert await peer.silence()
        host.expect_failure = StateFailure("disk full")
        await peer.say("AttachTaskNetworkInterfacesMessage", **of_task)
        assert await peer.silence()

    await play(host, script)
    assert len(host.expected) == 3


def volume(kind: str | None, properties: dict[str, str], **changes: Any) -> dict[str, Any]:
    attachment = {
        "attachmentArn": "arn:aws:ecs:eu-west-1:123456789012:attachment/v",
        "attachmentType": kind,
        "attachmentProperties": [{"name": n, "value": v} for n, v in properties.items()],
    }
    return ORIGIN | {"messageId": "v-1", "taskArn": arn("a"), "attachment": attachment} | changes


async def test_volumes_are_expected_or_only_acknowledged(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        await peer.say("ConfirmAttachmentMessage", **volume("amazonebs", EBS))
        assert await peer.hear() == ("AckRequest", ACK | {"messageId": "v-1"})
        [expected] = host.expected
        assert (expected.kind, expected.key) == ("ebs", "vol-1")
        assert expected.expires_at == 1300.0
        assert expected.details["deviceName"] == "/dev/xvdba"
        older = {"resourceType": "ElasticBlockStorage", "volumeID": "v", "deviceName": "d"}
        await peer.say("ConfirmAttachmentMessage", **volume(None, older))
        assert (await peer.hear())[0] == "AckRequest"
        for broken in (
            volume("amazonebs", EBS | {"fileSystem": "fat"}),
            volume("amazonebs", EBS | {"volumeId": ""}),
            volume("amazonebs", {"volumeId": "vol-1"}),
            volume("other", EBS),
            volume("amazonebs", EBS, clusterArn="c"),
            volume("amazonebs", EBS, attachment=None),
        ):
            await peer.say("ConfirmAttachmentMessage", **broken)
        assert await peer.silence()

    await play(host, script)
    assert len(host.expected) == 1


async def test_updates_are_refused(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        update = ORIGIN | {"messageId": "u-1", "updateInfo": {"location": "s3://x"}}
        for kind in ("StageUpdateMessage", "PerformUpdateMessage"):
            await peer.say(kind, **update)
            refused = ACK | {"messageId": "u-1", "reason": "Updates are disabled"}
            assert await peer.hear() == ("NackRequest", refused)

    await play(host, script)


async def test_what_ecs_only_tells_is_logged_and_not_answered(host: AcsHost) -> None:
    async def script(peer: Peer) -> None:
        for kind in ("CloseMessage", "ErrorMessage", "ServerException"):
            await peer.say(kind, message="so it is")
        await peer.raw(b'{"type":"ErrorMessage","message":7}')
        await peer.raw(b'{"BadRequestException":"bad"}')
        assert await peer.silence()

    with capture_logs() as lines:
        await play(host, script)
    [line] = [line for line in lines if line["event"] == "Amazon ECS says"]
    assert line["text"] == "so it is"
