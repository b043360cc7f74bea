from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.records import AttachmentRecord, ContainerRecord, TaskRecord
from agent.controlplane.tasks import changes as task_changes
from agent.model.changes import AttachmentChange, ContainerChange, NetworkInterface, TaskChange
from agent.model.status import Health

TASK = TaskRecord(
    id="t",
    arn="arn:t",
    cluster="default",
    task_definition_arn="arn:d",
    family="web",
    revision=1,
    last_status="PROVISIONING",
    containers=[
        ContainerRecord(name="main", arn="c1", health_check=True),
        ContainerRecord(name="side", arn="c2", essential=False),
    ],
    attachments=[AttachmentRecord(id="e-1", details={"subnetId": "subnet-1"})],
)


def a_change(status: str, change_id: str = "1", **more: Any) -> TaskChange:
    return TaskChange(id=change_id, task_arn="arn:t", status=status, at=100.0, **more)


def main_is(status: str, **more: Any) -> list[ContainerChange]:
    return [ContainerChange(container_name="main", status=status, **more)]


def test_pending_running_stopped() -> None:
    pending = task_changes.apply(TASK, a_change("PENDING", "1", pull_started_at=90.0))
    assert (pending.last_status, pending.pull_started_at) == ("PENDING", 90.0)
    assert (pending.connectivity, pending.version) == ("CONNECTED", 2)
    running = task_changes.apply(
        pending, a_change("RUNNING", "2", containers=main_is("RUNNING", runtime_id="r"))
    )
    assert (running.last_status, running.started_at) == ("RUNNING", 100.0)
    stopped = task_changes.apply(
        running,
        a_change(
            "STOPPED", "3", stopped_at=120.0, containers=main_is("STOPPED", exit_code=3, reason="x")
        ),
    )
    assert stopped.desired_status == "STOPPED"
    assert stopped.stop_code == "EssentialContainerExited"
    assert stopped.stopped_reason == "Essential container in task exited"
    assert (stopped.stopped_at, stopped.stopping_at) == (120.0, 120.0)
    assert (stopped.containers[0].exit_code, stopped.containers[0].runtime_id) == (3, "r")
    assert [c.last_status for c in stopped.containers] == ["STOPPED", "STOPPED"]
    assert stopped.attachments[0].status == "DELETED"


def test_pull_failure_is_a_failure_to_start() -> None:
    containers = main_is("STOPPED", reason="CannotPullContainerError: no such image")
    stopped = task_changes.apply(TASK, a_change("STOPPED", containers=containers))
    assert stopped.stop_code == "TaskFailedToStart"
    assert stopped.stopped_reason == "Task failed to start"
    assert stopped.containers[0].reason == "CannotPullContainerError: no such image"


def test_task_that_ended_before_running_was_reported() -> None:
    containers = main_is("STOPPED", exit_code=0, runtime_id="r")
    stopped = task_changes.apply(TASK, a_change("STOPPED", containers=containers))
    assert stopped.stop_code == "EssentialContainerExited"


def test_a_container_that_is_named_twice_was_both_one_after_the_other() -> None:
    """Amazon's agent tells in one request what a container went through since the last one."""
    containers = [
        *main_is("RUNNING", runtime_id="r"),
        *main_is("STOPPED", exit_code=0, reason="well"),
    ]
    stopped = task_changes.apply(TASK, a_change("STOPPED", containers=containers))
    shown = stopped.containers[0]
    assert (shown.last_status, shown.runtime_id) == ("STOPPED", "r")
    assert (shown.exit_code, shown.reason) == (0, "well")
    backwards = task_changes.apply(TASK, a_change("STOPPED", containers=containers[::-1]))
    assert backwards.containers[0].exit_code == 0


def test_a_reason_that_has_passed_is_no_longer_shown() -> None:
    """A pull that failed and is tried again is told of, and told of no more once it has worked."""
    failing = main_is("PENDING", reason="CannotPullContainerError: refused")
    pending = task_changes.apply(TASK, a_change("PENDING", "1", containers=failing))
    assert pending.containers[0].reason == "CannotPullContainerError: refused"
    assert (pending.desired_status, pending.stop_code) == ("RUNNING", "")
    pulled = task_changes.apply(pending, a_change("PENDING", "2", containers=main_is("PENDING")))
    assert pulled.containers[0].reason == ""
    up = task_changes.apply(pending, a_change("RUNNING", "3", containers=main_is("RUNNING")))
    assert up.containers[0].reason == ""


DIGEST = "sha256:" + "7" * 64


@pytest.mark.parametrize(
    ("image", "reported", "shown"),
    [
        (f"web@{DIGEST}", "", DIGEST),
        (f"registry:5000/team/web:1@{DIGEST}", "", DIGEST),
        ("web:1", "sha256:1", "sha256:1"),
        ("web:1", "", ""),
    ],
)
def test_the_digest_of_an_image_that_was_given_by_digest(
    image: str, reported: str, shown: str
) -> None:
    """Agents do not report it, those of Amazon neither: control has named it itself."""
    task = replace(TASK, containers=[replace(TASK.containers[0], image=image)])
    pending = task_changes.apply(task, a_change("PENDING", "1", containers=main_is("PENDING")))
    assert pending.containers[0].image_digest == ""
    up = main_is("RUNNING", runtime_id="r", image_digest=reported)
    running = task_changes.apply(pending, a_change("RUNNING", "2", containers=up))
    assert running.containers[0].image_digest == shown
    failed = main_is("STOPPED", reason="CannotPullContainerError: no")
    stopped = task_changes.apply(pending, a_change("STOPPED", "3", containers=failed))
    assert stopped.containers[0].image_digest == ""


def both(main: str, side: str, **more: Any) -> list[ContainerChange]:
    return [*main_is(main, **more), ContainerChange(container_name="side", status=side)]


def test_a_task_whose_essential_container_has_ended_is_to_stop() -> None:
    """A sibling may take its stop time: control says at once that the task goes, and why."""
    running = task_changes.apply(TASK, a_change("RUNNING", "1", containers=both(*["RUNNING"] * 2)))
    assert (running.desired_status, running.stop_code) == ("RUNNING", "")
    change = a_change(
        "RUNNING",
        "2",
        stopping_at=110.0,
        execution_stopped_at=109.0,
        containers=both("STOPPED", "RUNNING", exit_code=3, runtime_id="r"),
    )
    stopping = task_changes.apply(running, change)
    assert (stopping.desired_status, stopping.last_status) == ("STOPPED", "RUNNING")
    assert stopping.stop_code == "EssentialContainerExited"
    assert stopping.stopped_reason == "Essential container in task exited"
    assert (stopping.stopping_at, stopping.execution_stopped_at) == (110.0, 109.0)
    assert (stopping.stopped_at, stopping.containers[1].last_status) == (0.0, "RUNNING")
    stopped = task_changes.apply(stopping, a_change("STOPPED", "3", stopped_at=140.0))
    assert stopped.stop_code == "EssentialContainerExited"
    assert (stopped.stopping_at, stopped.stopped_at) == (110.0, 140.0)


def test_a_container_that_is_not_essential_may_end() -> None:
    change = a_change("RUNNING", containers=both("RUNNING", "STOPPED"))
    task = task_changes.apply(TASK, change)
    assert (task.desired_status, task.stop_code, task.stopping_at) == ("RUNNING", "", 0.0)


def test_a_task_that_cannot_start_is_to_stop_before_all_of_it_has() -> None:
    containers = both("STOPPED", "RUNNING", reason="CannotPullContainerError: no such image")
    task = task_changes.apply(TASK, a_change("PENDING", containers=containers))
    assert (task.desired_status, task.last_status) == ("STOPPED", "PENDING")
    assert (task.stop_code, task.stopped_reason) == ("TaskFailedToStart", "Task failed to start")
    assert task.stopping_at == 100.0


def test_a_stop_that_the_agent_decided_on_is_shown_before_anything_has_ended() -> None:
    change = a_change(
        "RUNNING",
        stop_code="UserInitiated",
        reason="Stopped by an operator on the host",
        stopping_at=105.0,
        containers=both("RUNNING", "RUNNING"),
    )
    task = task_changes.apply(TASK, change)
    assert (task.desired_status, task.last_status) == ("STOPPED", "RUNNING")
    assert (task.stop_code, task.stopping_at) == ("UserInitiated", 105.0)
    assert task.stopped_reason == "Stopped by an operator on the host"


def test_what_the_user_asked_for_stands() -> None:
    asked = replace(TASK, stop_code="UserInitiated", stopped_reason="enough", stopping_at=50.0)
    stopped = task_changes.apply(asked, a_change("STOPPED", reason="other"))
    assert (stopped.stop_code, stopped.stopped_reason) == ("UserInitiated", "enough")
    assert stopped.stopping_at == 50.0


def test_reason_of_the_agent_is_shown() -> None:
    stopped = task_changes.apply(TASK, a_change("STOPPED", reason="no GPU here"))
    assert stopped.stopped_reason == "no GPU here"


@pytest.mark.parametrize(
    "name", ["e-1", "arn:aws:ecs:us-east-1:000000000000:attachment/e-1", "own"]
)
def test_attachment_is_found_by_id_arn_or_being_the_only_one(name: str) -> None:
    attached = AttachmentChange(id=name, status="ATTACHED", details={"macAddress": "02:00"})
    change = a_change(
        "RUNNING",
        attachments=[attached],
        containers=main_is(
            "RUNNING",
            network_interfaces=[
                NetworkInterface(attachment_id=name, private_ipv4_address="10.0.0.2")
            ],
        ),
    )
    task = task_changes.apply(TASK, change)
    assert task.attachments[0].status == "ATTACHED"
    assert task.attachments[0].details == {"subnetId": "subnet-1", "macAddress": "02:00"}
    assert task.containers[0].network_interfaces[0].attachment_id == "e-1"


def test_health() -> None:
    healthy = main_is("RUNNING", health_status=Health.HEALTHY)
    task = task_changes.apply(TASK, a_change("RUNNING", "1", containers=healthy))
    assert task.health_status == "HEALTHY"
    sick = main_is("RUNNING", health_status=Health.UNHEALTHY)
    assert task_changes.apply(task, a_change("RUNNING", "2", containers=sick)).health_status == (
        "UNHEALTHY"
    )


@pytest.mark.parametrize(
    "change",
    [
        a_change("DANCING"),
        a_change("RUNNING", ""),
        a_change("RUNNING", containers=main_is("CREATED")),
        a_change("RUNNING", attachments=[AttachmentChange(id="e", status="LOST")]),
    ],
)
def test_nonsense_is_refused(change: TaskChange) -> None:
    with pytest.raises(ValueError, match=r"must have 1|is not one of"):
        task_changes.apply(TASK, change)


def test_stop_without_agent() -> None:
    task = task_changes.stop_without_agent(TASK, code="UserInitiated", reason="gone", now=7.0)
    assert (task.last_status, task.stopped_at, task.stopped_reason) == ("STOPPED", 7.0, "gone")


_CHANGES = st.builds(
    TaskChange,
    id=st.sampled_from("123456"),
    task_arn=st.just("arn:t"),
    status=st.sampled_from(["PENDING", "RUNNING", "STOPPED"]),
    at=st.floats(1, 100),
    containers=st.lists(
        st.builds(
            ContainerChange,
            container_name=st.sampled_from(["main", "side", "unknown"]),
            status=st.sampled_from(["PENDING", "RUNNING", "STOPPED"]),
            exit_code=st.none() | st.integers(0, 255),
        ),
        max_size=3,
    ),
)


@given(st.lists(_CHANGES, max_size=12))
def test_statuses_only_move_forward(changes: list[TaskChange]) -> None:
    order = ["PROVISIONING", "PENDING", "RUNNING", "STOPPED"]
    task = TASK
    for change in changes:
        after = task_changes.apply(task, change)
        assert order.index(after.last_status) >= order.index(task.last_status)
        for old, new in zip(task.containers, after.containers, strict=True):
            assert order.index(new.last_status) >= order.index(old.last_status)
        assert task_changes.apply(after, change) is after
        if after is not task:
            assert after.version == task.version + 1
        task = after
    if task.last_status == "STOPPED":
        assert task.stop_code
        assert task.stopped_reason
        assert task.stopped_at
        assert {c.last_status for c in task.containers} == {"STOPPED"}
