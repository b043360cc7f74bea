from __future__ import annotations

import msgspec

from agent.engine import task_commands
from agent.engine.task_commands import TaskCommand
from agent.model import payload as payloads
from agent.model.wire import Assignment, Assignments
from tests.support.tasks import container, payload


def run(arn: str, raw: bytes | None = None) -> Assignment:
    body = raw if raw is not None else payloads.encode(payload(container("a"), arn=arn))
    return Assignment(task_arn=arn, desired_status="RUNNING", payload=msgspec.Raw(body))


def stop(arn: str) -> Assignment:
    return Assignment(
        task_arn=arn, desired_status="STOPPED", stopped_reason="why", stop_code="UserInitiated"
    )


def read(*tasks: Assignment, known: frozenset[str] = frozenset()) -> list[TaskCommand]:
    return task_commands.read(Assignments(revision=1, tasks=list(tasks)), known)


def test_stops_come_first() -> None:
    orders = read(run("t/1"), stop("t/2"), run("t/3"), stop("t/4"))
    assert [order.arn for order in orders] == ["t/2", "t/4", "t/1", "t/3"]
    assert orders[0] == TaskCommand("t/2", reason="why", stop_code="UserInitiated")


def test_a_known_task_needs_no_second_order_to_run() -> None:
    assert read(run("t/1"), known=frozenset({"t/1"})) == []
    assert read(run("t/1", b"broken"), known=frozenset({"t/1"})) == []
    assert len(read(stop("t/1"), known=frozenset({"t/1"}))) == 1


def test_the_last_word_about_a_task_counts() -> None:
    assert read(run("t/1"), stop("t/1")) == [read(stop("t/1"))[0]]


def test_a_broken_payload_harms_no_other() -> None:
    good, *bad = sorted(
        read(
            run("t/ok"),
            run("t/1", b"{"),
            run("t/2", b'{"arn": "t/2", "containers": [{"name": 1, "image": "x"}]}'),
            run("t/3", b"{}"),
            run("t/4", payloads.encode(payload(container("a"), arn="t/other"))),
        ),
        key=lambda order: order.payload is None,
    )
    assert good.payload is not None
    assert len(bad) == 4
    for order in bad:
        assert order.reason.startswith("UnrecogniedTaskError: Error loading task - ")
        assert order.stop_code == "TaskFailedToStart"
    assert "$.containers[0].name" in next(o.reason for o in bad if o.arn == "t/2")


def test_an_assignment_without_a_name_is_nothing() -> None:
    assert read(run("")) == []
