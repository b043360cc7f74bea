"""A back end that sends anything: tasks run on, the agent neither spins nor grows nor floods its log."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.backend import faults, messages
from tests.backend.api import cluster_arn, task_arn
from tests.backend.channel import text_frame
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration

GROWTH_MIB = 80
"""By how much the agent may have grown after frames of 10 MB; what it holds must not add up."""
LOG_LINES = 60
"""What a test here may make the agent log, at most."""
CPU_S = 8.0


@pytest.fixture(autouse=True)
def bounded(host: Host) -> Iterator[None]:
    """Hold memory, processor time and log of the agent to limits while it is tormented."""
    process = host.process()
    rss = process.memory_info().rss
    used = sum(process.cpu_times()[:2])
    lines = host.log().count("\n")
    yield
    assert host.agent.is_alive(), host.agent.tail()
    host.wait_session(within_s=60)
    host.backend.acs.beat()
    assert (process.memory_info().rss - rss) / 2**20 < GROWTH_MIB
    assert sum(process.cpu_times()[:2]) - used < CPU_S
    # Tasks have lines of their own, few for each: what is limited is what is said of the trouble.
    new = [line for line in host.log().splitlines()[lines:] if '"task": "arn' not in line]
    assert len(new) < LOG_LINES, "\n".join(line[:200] for line in new[:20])
    assert max((len(line) for line in new), default=0) < 4000, "a log line without an end"


def _whole(host: Host) -> dict[str, dict[str, Any]]:
    """Return one good message of every type."""
    connection = host.backend.acs.wait_open()
    ids = {
        "messageId": "fuzz",
        "clusterArn": cluster_arn("default"),
        "containerInstanceArn": connection.query["containerInstanceArn"],
    }
    # No image can have that name: a task that gets through fails at once, and makes no container.
    task = messages.everything("Not A Name", "true")
    ended = messages.task(desired="STOPPED")
    interface = messages.attach(messages.interface("0a:77:00:00:00:09"), wait_ms=1000)
    [kept] = host.kept
    return {
        "PayloadMessage": {**ids, **messages.payload(task, ended)},
        "IAMRoleCredentialsMessage": {
            "messageId": "fuzz",
            "taskArn": kept,
            "roleType": "TaskApplication",
            "roleCredentials": messages.credentials("fuzz"),
        },
        "HeartbeatMessage": {"messageId": "fuzz", "healthy": True},
        "AttachTaskNetworkInterfacesMessage": {**ids, **interface, "taskArn": kept},
        "AttachInstanceNetworkInterfacesMessage": {**ids, **interface},
        "ConfirmAttachmentMessage": {**ids, **messages.confirm(messages.volume(), wait_ms=1000)},
        # Too old to count: a manifest that is taken would ask after the kept task, rightly.
        "TaskManifestMessage": {**ids, **messages.manifest(messages.listed(kept), timeline=0)},
        "TaskStopVerificationAck": {
            "messageId": "fuzz",
            "generatedAt": 1,
            "stopTasks": [messages.listed("arn:aws:ecs:us-east-1:1:task/default/x", "STOPPED")],
        },
        "StageUpdateMessage": {**ids, **messages.update()},
        "PerformUpdateMessage": {**ids, **messages.update()},
        "CloseMessage": {"message": "x"},
        "ErrorMessage": {"message": "x"},
    }


NONSENSE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    2**70,
    10**400,
    1e308,
    0.5,
    "",
    "x",
    "✓\u0000\n",
    "x" * 5000,
    [],
    [None],
    [[]],
    [1, "a", {}],
    {},
    {"a": {"b": [{}]}},
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, child in items:
        yield from _paths(child, (*path, key))


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.deepcopy(value)
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return value


def _renamed(payload: Any) -> Any:
    """Give the tasks of a payload names of their own: a name that is known changes nothing."""
    if isinstance(payload, dict) and isinstance(payload.get("tasks"), list):
        payload = copy.deepcopy(payload)
        for task in payload["tasks"]:
            if isinstance(task, dict) and str(task.get("arn")).startswith("arn:"):
                task["arn"] = task_arn()
    return payload


def test_every_field_with_any_value(host: Host) -> None:
    acs, chance = host.backend.acs, random.Random(20_210)
    acs.remember("HeartbeatMessage", {"messageId": ""})  # one without an id may be answered so
    number = acs.wait_open().number
    for type_, message in _whole(host).items():
        for path in _paths(message):
            if type_ == "TaskManifestMessage" and path[-1:] == ("timeline",):
                continue
            wrong = _changed(message, path, chance.choice(NONSENSE))
            if type_ == "PayloadMessage":
                wrong = _renamed(wrong)
            if isinstance(wrong, dict) and isinstance(wrong.get("messageId"), str):
                # Answers to one id must be told apart by what the message says.
                acs.remember(type_, wrong)
            acs.send_text(json.dumps({"type": type_, "message": wrong}))
    acs.beat(within_s=40)
    assert acs.wait_open().number == number, "all of it came over one connection"
    time.sleep(0.5)
    process = host.process()
    used = sum(process.cpu_times()[:2])
    time.sleep(1.0)
    assert sum(process.cpu_times()[:2]) - used < 0.5, "still busy with what it was sent"
    eventually(lambda: len(host.agent.json("tasks")) == 1, what="only the kept task is left")


def test_envelopes_that_are_none(host: Host) -> None:
    acs = host.backend.acs
    acs.remember("HeartbeatMessage", {"messageId": ""})  # one without an id may be answered so
    number = acs.wait_open().number
    for text in (
        "",
        " ",
        "null",
        "5",
        "[]",
        "{}",
        '{"type":null,"message":{}}',
        '{"type":5,"message":{}}',
        '{"type":"PayloadMessage"}',
        '{"type":"PayloadMessage","message":null}',
        '{"type":"PayloadMessage","message":"{}"}',
        '{"type":"PayloadMessage","message":[]}',
        '{"type":"HeartbeatMessage","message":{"messageId":NaN}}',
        '{"type":"HeartbeatMessage","message":{"healthy":1e999999}}',
        '{"message":{"messageId":"x"}}',
        '{"ServerException":"text"}',
        '{"type":"' + "T" * 100_000 + '","message":{}}',
        '{"type":"PayloadMessage","message":{"tasks":' + "[" * 50_000 + "]" * 50_000 + "}}",
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"type":"Payload',
        "\ufeff{}",
        "\u0000",
    ):
        acs.send_text(text)
    acs.beat()
    assert acs.wait_open().number == number, "nothing of this is a reason to leave"


@pytest.mark.parametrize(
    "raw",
    [
        b"\x82\x02{}\x81\x02\xff\xfe",  # binary, then no UTF-8
        b"\xf1\x02{}",  # reserved bits
        b"\x89\x7e\x00\x80" + b"x" * 128,  # a control frame that is too long
        b"\x81\xff" + b"\xff" * 8,  # longer than there is memory, and masked
        b"\x88\x02\x03\xed",  # 1005, a close code which must not be sent
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=lambda raw: raw[:4].hex(),
)
def test_bytes_that_are_no_frames(host: Host, raw: bytes) -> None:
    acs = host.backend.acs
    number = acs.wait_open().number
    acs.send_raw(raw)
    time.sleep(0.2)
    if acs.is_open and acs.wait_open().number == number:
        acs.drop()  # what follows would be read as a part of it
    acs.wait_open(after=number, within_s=40)


def test_half_a_frame_and_the_end(host: Host) -> None:
    acs, task = host.backend.acs, host.task("true")
    fields = messages.payload(task)
    whole = json.dumps({"type": "PayloadMessage", "message": {"messageId": "half", **fields}})
    number = acs.wait_open().number
    raw = text_frame(whole)
    acs.send_raw(raw[: len(raw) // 2])
    acs.drop()
    acs.wait_open(after=number)
    assert host.backend.reports(task["arn"]) == []


def test_a_slow_drip_is_read_to_its_end(host: Host) -> None:
    acs, task = host.backend.acs, host.task("true")
    connection = acs.wait_open()
    message = {
        "messageId": "drip",
        "clusterArn": cluster_arn("default"),
        "containerInstanceArn": connection.query["containerInstanceArn"],
        **messages.payload(task, seq=host.next_seq()),
    }
    acs.remember("PayloadMessage", message)
    host.tasks.append(task["arn"])
    raw = text_frame(json.dumps({"type": "PayloadMessage", "message": message}))
    acs.drip(raw, step=max(1, len(raw) // 60), pause_s=0.03)
    acs.wait_ack("drip")
    host.wait(task["arn"], "STOPPED")


def test_frames_of_ten_megabytes(host: Host) -> None:
    acs = host.backend.acs
    for _ in range(2):
        number = acs.wait_open().number
        with contextlib.suppress(ConnectionError):  # it need not be read to its end
            acs.send_text('{"type":"PayloadMessage","message":{"pad":"' + "x" * 10_000_000 + '"}}')
        acs.wait_closed(number)


def test_a_flood_is_slowed_down(host: Host) -> None:
    acs = host.backend.acs
    for _ in range(250):
        acs.send_text('{"type":"Unknown","message":{}}')
    acs.beat(within_s=60)


def test_telemetry_is_no_way_in_either(host: Host) -> None:
    tcs = host.backend.tcs
    for text in (
        "",
        "null",
        "{}",
        "[" * 50_000,
        '{"type":"HeartbeatMessage","message":5}',
        "x" * 10**6,
    ):
        number = tcs.wait_open().number
        tcs.send_text(text)
        time.sleep(0.05)
        if not tcs.is_open:
            tcs.wait_open(after=number)
    number = tcs.wait_open().number
    tcs.send_raw(b"\xf1\x02{}")
    time.sleep(0.1)
    tcs.wait_open()
    del number


def test_answers_of_the_api_of_ten_megabytes(host: Host) -> None:
    task = host.task("true")
    large = faults.Answer(b'{"acknowledgment":"' + b"x" * 10_000_000 + b'"}')
    host.backend.fault("SubmitTaskStateChange", large, times=2)
    host.order(task)
    calls = host.backend.journal.wait(
        lambda: [c for c in host.backend.reports(task["arn"]) if c.request["status"] == "STOPPED"],
        what="the last report",
    )
    assert calls
