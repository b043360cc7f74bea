"""A host of Amazon ECS from its first registration on: tasks run, are reported, and outlive crashes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.backend import faults, messages, oracle
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration


def test_registers_runs_reports_and_stops(fresh: Callable[..., Host]) -> None:
    host = fresh().start()
    backend = host.backend
    [registration] = backend.journal.calls("RegisterContainerInstance")
    names = {a["name"] for a in registration.request["attributes"]}
    assert "ecs.capability.external" in names
    assert registration.request["cluster"] == "default"
    assert "containerInstanceArn" not in registration.request
    assert backend.acs.wait_open().query["sendCredentials"] == "true"

    task = host.task("sh", "-c", "exit 7")
    backend.acs.wait_ack(host.order(task))
    host.wait(task["arn"], "STOPPED")
    last = oracle.last_of_containers(backend.reports(), task["arn"])["app"]
    assert (last["status"], last["exitCode"]) == ("STOPPED", 7)
    assert len(last["runtimeId"]) == 64

    arn = host.run_task()
    host.stop_task(arn)
    assert oracle.statuses(backend.reports(), arn)[-2:] == ["RUNNING", "STOPPED"]
    report = backend.wait_status(arn, "STOPPED").request
    assert {"executionStoppedAt", "containers"} <= set(report)
    assert backend.tcs.is_open


def test_a_crash_keeps_instance_and_tasks(fresh: Callable[..., Host]) -> None:
    host = fresh(ECS_INSTANCE_ATTRIBUTES='{"rack":"a 1"}').start()
    backend = host.backend
    arn = host.run_task()
    pid = host.pid(arn)
    host.crash()
    host.start()
    first, second = backend.journal.calls("RegisterContainerInstance")
    [instance] = backend.api.instances
    assert second.request["containerInstanceArn"] == instance
    assert second.request["clientToken"] != first.request["clientToken"]
    assert {"name": "rack", "value": "a 1"} in first.request["attributes"]
    assert {"name": "rack", "value": "a 1"} not in second.request["attributes"]
    assert backend.acs.wait_open().query["sendCredentials"] == "true", "keys were in memory alone"
    assert host.pid(arn) == pid
    host.stop_task(arn)
    assert oracle.statuses(backend.reports(), arn)[-2:] == ["RUNNING", "STOPPED"]


def test_what_was_acknowledged_survives_a_crash(fresh: Callable[..., Host]) -> None:
    host = fresh().start()
    backend = host.backend
    for _ in range(3):
        tasks = [host.task() for _ in range(2)]
        order = host.order(*tasks)
        backend.acs.wait_ack(order)
        host.crash()
        host.start()
        # Without it, what had not begun waits a minute for a word of control.
        backend.acs.wait_ack(host.manifest(*host.tasks))
        for task in tasks:
            host.wait(task["arn"], "RUNNING")
    assert len(host.tasks) == 6
    running = [host.pid(a) for a in host.tasks]
    # A manifest in the new life finds them all wanted.
    order = host.manifest(*host.tasks)
    backend.acs.wait_ack(order)
    assert not backend.acs.frames("TaskStopVerificationMessage")
    assert [host.pid(a) for a in host.tasks] == running


def test_what_stopped_unreported_is_reported_after_a_crash(fresh: Callable[..., Host]) -> None:
    host = fresh().start()
    backend = host.backend
    arn = host.run_task()
    backend.fault("SubmitTaskStateChange", faults.SERVER_ERROR, times=-1)
    before = len(backend.reports(arn))
    os.kill(host.pid(arn), 9)
    backend.journal.wait(lambda: len(backend.reports(arn)) > before, what="a try to report")
    host.crash()
    backend.api.script.clear()
    host.start()
    host.wait(arn, "STOPPED")
    assert oracle.last_of_containers(backend.reports(), arn)["app"]["exitCode"] == 137
    eventually(host.agent.has_no_tasks)


def test_leaves_on_sigterm_and_comes_back_as_itself(fresh: Callable[..., Host]) -> None:
    host = fresh().start()
    arn = host.run_task()
    pid = host.pid(arn)
    assert host.agent.stop() == 0
    connection = host.backend.acs.wait_closed(1)
    assert connection.close_code in (1000, 1001)
    host.backend.lives += 1
    host.start()
    assert len(host.backend.api.instances) == 1
    assert host.pid(arn) == pid
    order = host.order(messages.stop(arn))
    host.backend.acs.wait_ack(order)
    host.wait(arn, "STOPPED")
