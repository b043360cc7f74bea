"""What may stay untold: never a status, never the last state of a container."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.model.changes import AttachmentChange, ContainerChange, TaskChange
from agent.upstream.amazon.submit.merge import (
    Accepted,
    QueuedReport,
    TaskQueue,
    is_foreign,
    queue_key,
)
from agent.upstream.amazon.submit.shapes import EcsCall


def change(number: int, status: str) -> TaskChange:
    """A report whose only container carries its number, as the state that must not get lost."""
    containers = [ContainerChange(container_name="a", status=status or "x", restart_count=number)]
    return TaskChange(
        id=f"c{number}",
        task_arn="t",
        status=status,
        at=1.0,
        containers=containers if status else [],
    )


def test_waiting_reports_of_one_status_become_the_newest() -> None:
    lane = TaskQueue()
    assert lane.add(QueuedReport(1, change(1, "RUNNING"))) == []
    assert lane.add(QueuedReport(2, change(2, "RUNNING"))) == [1]
    assert lane.add(QueuedReport(3, change(3, "STOPPED"))) == []
    assert lane.first() == (QueuedReport(2, change(2, "RUNNING")), [])
    assert lane.drop_first() == 2
    assert lane.first()[0].seq == 3


def test_what_is_under_way_stays_until_it_failed() -> None:
    lane = TaskQueue()
    lane.add(QueuedReport(1, change(1, "RUNNING")))
    lane.under_way = True
    assert lane.add(QueuedReport(2, change(2, "RUNNING"))) == []
    assert lane.add(QueuedReport(3, change(3, "RUNNING"))) == [2]
    lane.under_way = False
    assert lane.first() == (QueuedReport(3, change(3, "RUNNING")), [1])
    assert len(lane) == 1


def test_attachments_are_never_merged() -> None:
    lane = TaskQueue()
    assert lane.add(QueuedReport(1, change(1, ""))) == []
    assert lane.add(QueuedReport(2, change(2, ""))) == []
    assert len(lane) == 2


def test_tasks_that_ecs_can_never_know() -> None:
    instance = "arn:aws:ecs:eu-west-1:123456789012:container-instance/c/0123"
    assert not is_foreign("arn:aws:ecs:eu-west-1:123456789012:task/other/1", instance)
    assert is_foreign("arn:aws:ecs:eu-west-1:000000000000:task/c/1", instance)
    assert is_foreign("arn:aws:ecs:us-east-1:123456789012:task/c/1", instance)
    assert is_foreign("arn:aws-cn:ecs:eu-west-1:123456789012:task/c/1", instance)
    # What is not an ARN tells nothing: it is tried for ever, as any other.
    assert not is_foreign("", instance)
    assert not is_foreign("t1", instance)
    assert not is_foreign("arn:aws:ecs:us-east-1:000000000000:task/c/1", "odd")


def test_lanes() -> None:
    def of(task: str, *ids: str) -> TaskChange:
        attachments = [AttachmentChange(id=one, status="ATTACHED") for one in ids]
        return TaskChange(id="c", task_arn=task, status="", at=1.0, attachments=attachments)

    assert queue_key(of("t", "a")) == queue_key(change(1, "RUNNING"))
    assert queue_key(of("", "a")) == queue_key(of("", "a"))
    assert len({queue_key(of("", "a")), queue_key(of("", "b")), queue_key(of("t"))}) == 3


@given(
    st.lists(st.tuples(st.sampled_from(["PENDING", "RUNNING", "STOPPED", ""]), st.integers(0, 3)))
)
def test_every_step_is_told_with_its_last_state(moves: list[tuple[str, int]]) -> None:
    """Sends begin, fail and succeed in between, in any way."""
    lane = TaskQueue()
    gone: list[int] = []
    told: list[tuple[int, str]] = []

    def succeed() -> None:
        told.append((row.seq, row.change.status))
        lane.under_way = False
        gone.append(lane.drop_first())

    for number, (status, move) in enumerate(moves):
        gone += lane.add(QueuedReport(number, change(number, status)))
        if move == 1 and not lane.under_way:
            row, needless = lane.first()
            gone += needless
            lane.under_way = True
        elif move == 2 and lane.under_way:
            succeed()
        elif move == 3:
            lane.under_way = False
    lane.under_way = False
    while len(lane):
        row, needless = lane.first()
        gone += needless
        succeed()

    assert sorted(gone) == list(range(len(moves)))
    assert len(set(gone)) == len(gone)
    numbers = [number for number, _ in told]
    assert numbers == sorted(numbers)
    # Of every run of equal statuses the last one was told, and every attachment was.
    for number, (status, _) in enumerate(moves):
        ends_run = number + 1 == len(moves) or moves[number + 1][0] != status
        if ends_run or not status:
            assert (number, status) in told


def test_remembers_what_was_accepted_within_bounds() -> None:
    accepted = Accepted(limit=2)
    first, second = EcsCall("X", {"a": 1, "b": 2}), EcsCall("X", {"a": 2})
    accepted.note("t1", first)
    assert accepted.has("t1", EcsCall("X", {"b": 2, "a": 1}))
    assert not accepted.has("t1", second)
    assert not accepted.has("t2", first)
    accepted.note("t2", first)
    accepted.note("t1", second)
    accepted.note("t3", first)
    assert accepted.has("t1", second)
    assert not accepted.has("t2", first)
