"""Reports of tasks while the API fails in every way: in order, one at a time, and none lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.backend import faults, oracle

if TYPE_CHECKING:
    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration


def test_a_task_that_is_throttled_holds_up_no_other(host: Host) -> None:
    backend, slow = host.backend, host.task()
    scripted = backend.fault(
        "SubmitTaskStateChange",
        faults.THROTTLED,
        times=-1,
        where=lambda r: r["task"] == slow["arn"],
    )
    host.order(slow)
    backend.journal.wait(lambda: backend.reports(slow["arn"]), what="the first try")
    quick = host.task("true")
    host.order(quick)
    host.wait(quick["arn"], "STOPPED")
    assert not any(c.accepted for c in backend.reports(slow["arn"]))
    scripted.left = 0
    host.wait(slow["arn"], "RUNNING")
    host.stop_task(slow["arn"])


@pytest.mark.parametrize(
    "fault",
    [
        faults.SERVER_ERROR,
        faults.THROTTLED,
        faults.DENIED,
        faults.NO_CLUSTER,
        faults.HTML,
        faults.HTML_OK,
        faults.Half(),
        faults.Drop(),
        faults.Delay(1.0),
        faults.Answer(b"[" * 100_000),
        faults.Answer(b'{"__type":5,"message":{}}', 400),
        faults.Refuse("ThrottlingException", prefix="com.amazonaws.ecs.v20141113#"),
    ],
    ids=lambda f: f"{type(f).__name__}-{getattr(f, 'code', '')}",
)
def test_a_report_gets_through(host: Host, fault: faults.Fault) -> None:
    task = host.task("true")
    host.backend.fault("SubmitTaskStateChange", fault, where=lambda r: r["task"] == task["arn"])
    host.order(task)
    host.wait(task["arn"], "STOPPED")
    last = oracle.last_of_containers(host.backend.reports(), task["arn"])["app"]
    assert last["status"] == "STOPPED"


def test_an_invalid_report_is_let_go_and_the_next_one_comes(host: Host) -> None:
    backend, task = host.backend, host.task()
    backend.fault("SubmitTaskStateChange", faults.INVALID, where=lambda r: r["task"] == task["arn"])
    host.order(task)
    refused = backend.journal.wait(
        lambda: [c for c in backend.reports(task["arn"]) if c.code], what="the refusal"
    )
    host.stop_task(task["arn"])
    again = [c for c in backend.reports(task["arn"]) if c.request == refused[0].request]
    assert len(again) == 1


def test_what_happens_in_an_outage_is_told_afterwards_in_order(host: Host) -> None:
    backend = host.backend
    before = [host.run_task() for _ in range(2)]
    busy = [host.task("sh", "-c", "sleep 1; exit 3") for _ in range(12)]
    backend.acs.wait_ack(host.order(*busy))
    backend.go_dark()
    time.sleep(3.5)
    backend.come_back()
    came_back = time.monotonic()
    for task in busy:
        host.wait(task["arn"], "STOPPED")
        assert oracle.statuses(backend.reports(), task["arn"])[-2:] == ["RUNNING", "STOPPED"]
        assert oracle.last_of_containers(backend.reports(), task["arn"])["app"]["exitCode"] == 3
    assert time.monotonic() - came_back < 20
    host.wait_session()
    for arn in before:
        assert host.containers(arn, only_running=True)
        host.stop_task(arn)


def test_many_reports_go_side_by_side(host: Host) -> None:
    backend = host.backend
    tasks = [host.task("true") for _ in range(14)]
    mine = {t["arn"] for t in tasks}
    backend.fault(
        "SubmitTaskStateChange", faults.Delay(0.3), times=-1, where=lambda r: r["task"] in mine
    )
    host.order(*tasks)
    for task in tasks:
        host.wait(task["arn"], "STOPPED")
    edges = [
        edge
        for call in backend.reports()
        if call.request["task"] in mine and call.ended_at is not None
        for edge in ((call.at, 1), (call.ended_at, -1))
    ]
    now = most = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    assert 2 <= most <= oracle.SIDE_BY_SIDE
