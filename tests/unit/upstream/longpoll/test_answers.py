from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ControlFailure, ControlUnavailable, InstanceUnknown, StaleGeneration
from agent.upstream.longpoll import answers

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
ORDER_FIELDS = {
    "taskArn": JSON | st.sampled_from(["a", "b"]),
    "desiredStatus": JSON | st.sampled_from(["RUNNING", "STOPPED"]),
    "payload": JSON | st.just({"arn": "p"}),
    "stopCode": JSON | st.just("UserInitiated"),
    "future": JSON,
}
GOOD = {"taskArn": "good", "desiredStatus": "STOPPED", "payload": {"arn": "good"}}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for read in (answers.assignments, answers.registered, answers.changes):
        try:
            read(raw)
        except ControlUnavailable:
            continue


@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    raw = json.dumps(value).encode()
    for read in (answers.assignments, answers.registered, answers.changes):
        try:
            read(raw)
        except ControlUnavailable:
            continue


@given(
    st.lists(st.fixed_dictionaries({}, optional=ORDER_FIELDS) | JSON, max_size=5),
    st.booleans(),
)
def test_a_broken_order_never_harms_a_good_one(orders: list[object], full: bool) -> None:
    raw = json.dumps({"revision": 7, "full": full, "tasks": [*orders, GOOD]}).encode()
    read, troubles = answers.assignments(raw)
    assert read.revision == 7
    last = read.tasks[-1]
    assert (last.task_arn, last.desired_status) == ("good", "STOPPED")
    assert json.loads(bytes(last.payload)) == {"arn": "good"}
    assert all(order.task_arn for order in read.tasks)
    assert all(order.desired_status in {"RUNNING", "STOPPED"} for order in read.tasks)
    lost = len(orders) + 1 - len(read.tasks)
    assert len(troubles) >= lost
    assert read.full == (full and not lost)


@pytest.mark.parametrize(
    ("order", "arn"),
    [
        ({"taskArn": "a"}, "a"),
        ({"taskArn": "a", "desiredStatus": "SLEEPING"}, "a"),
        ({"taskArn": 1, "payload": {"arn": "p"}}, "p"),
        ({"taskArn": "", "desiredStatus": "RUNNING", "payload": {"arn": "p"}}, ""),
    ],
)
def test_a_broken_order_keeps_its_task_wanted(order: object, arn: str) -> None:
    raw = json.dumps({"revision": 1, "full": True, "tasks": [order]}).encode()
    read, troubles = answers.assignments(raw)
    assert len(troubles) == 1
    assert [task.task_arn for task in read.tasks] == ([arn] if arn else [])
    assert read.full is bool(arn)
    assert all(task.desired_status == "RUNNING" for task in read.tasks)
    assert all(bytes(task.payload) == b"{}" for task in read.tasks)


def test_payloads_are_not_looked_into() -> None:
    raw = b'{"revision":1,"tasks":[{"taskArn":"a","desiredStatus":"RUNNING","payload":{"arn": 7}}]}'
    read, troubles = answers.assignments(raw)
    assert troubles == []
    assert read.tasks[0].payload == msgspec.Raw(b'{"arn": 7}')


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"code": "InstanceUnknown"}', InstanceUnknown),
        (404, b"<html>", ControlUnavailable),
        (404, b'{"code": "NotFound"}', ControlUnavailable),
        (409, b'{"code": "StaleGeneration", "message": "x"}', StaleGeneration),
        (409, b"", ControlUnavailable),
        (410, b'{"code": "RevisionCompacted"}', answers.RevisionCompacted),
        (400, b"", answers.RequestRefused),
        (413, b"", answers.RequestRefused),
        (429, b"", ControlUnavailable),
        (500, b"\xff\x00", ControlUnavailable),
        (302, b"", ControlUnavailable),
    ],
)
def test_failures_mean_what_the_wire_says(
    status: int, body: bytes, kind: type[ControlFailure]
) -> None:
    failure = answers.failure(status, {}, body, "GET /x")
    assert type(failure) is kind
    assert str(failure).startswith(f"GET /x was answered {status}")
    assert "\n" not in str(failure)


@pytest.mark.parametrize("member", [b'"taskArn": "\xff"', b'"payload": {"arn": "\xff"}'])
def test_an_order_with_text_that_is_no_text_harms_no_other(member: bytes) -> None:
    good = json.dumps(GOOD).encode()
    read, troubles = answers.assignments(
        b'{"revision": 7, "full": true, "tasks": [{%b}, %b]}' % (member, good)
    )
    assert [order.task_arn for order in read.tasks] == ["good"]
    assert (read.full, len(troubles)) == (False, 1)


@given(st.integers(100, 599), st.binary(max_size=100), st.text(max_size=30))
def test_any_failure_is_a_control_failure(status: int, body: bytes, retry: str) -> None:
    assert isinstance(
        answers.failure(status, {"Retry-After": retry}, body, "GET /x"), ControlFailure
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", 0.0),
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("soon", 0.0),
        (format_datetime(datetime.fromtimestamp(1060, UTC), usegmt=True), 60.0),
        (format_datetime(datetime.fromtimestamp(900, UTC), usegmt=True), 0.0),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    assert answers.retry_after_s(value, now=1000.0) == seconds


@pytest.mark.parametrize(
    ("status", "body", "away"),
    [
        (503, b"<html>no upstream</html>", True),
        (502, b"", True),
        (504, b"", True),
        (503, b'{"code": "Unavailable", "message": "the store is full"}', False),
        (500, b"", False),
        (429, b"", False),
        (401, b"", False),
    ],
)
def test_only_a_gateway_says_that_control_is_away(status: int, body: bytes, *, away: bool) -> None:
    failure = answers.failure(status, {}, body, "GET /v1/hello")
    assert isinstance(failure, ControlUnavailable)
    assert failure.away is away
