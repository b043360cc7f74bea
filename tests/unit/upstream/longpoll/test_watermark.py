"""What the agent saw of control, and whether control went back since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.model.wire import Assignment, Assignments
from agent.state import Batch, StateStore
from agent.upstream.longpoll.watermark import Seen, Watermark, cautious, went_back

if TYPE_CHECKING:
    from pathlib import Path

SEEN = Seen(control_id="c", history="h", revision=10)


@pytest.mark.parametrize(
    ("control_id", "history", "revision", "word"),
    [
        ("c", "h", 10, ""),
        ("c", "h", 11, ""),
        ("c", "h", 9, "revision 9"),
        ("c", "other", 11, "another history"),
        ("c", "", 11, ""),
        ("c", "", 9, "revision 9"),
        ("d", "other", 1, ""),
    ],
)
def test_an_older_state_is_known(control_id: str, history: str, revision: int, word: str) -> None:
    orders = Assignments(revision=revision, history=history, full=True)
    why = went_back(SEEN, control_id, orders)
    assert bool(why) is bool(word)
    assert word in why


def test_nothing_seen_is_nothing_to_compare() -> None:
    assert not went_back(Seen(), "c", Assignments(revision=0, history="h"))
    assert not went_back(
        Seen(control_id="c", history="h"), "c", Assignments(revision=1, history="h")
    )


def test_what_is_cautious_stops_nothing() -> None:
    tasks = [
        Assignment(task_arn="a", desired_status="RUNNING"),
        Assignment(task_arn="b", desired_status="STOPPED"),
    ]
    left = cautious(Assignments(revision=3, full=True, tasks=tasks, history="h"))
    assert (left.full, [t.task_arn for t in left.tasks], left.revision) == (False, ["a"], 3)


async def test_it_is_kept_without_a_wait(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "agent.db")
    mark = await Watermark.open(store)
    assert mark.seen == Seen()
    mark.taken("c", Assignments(revision=7, history="h"))
    mark.taken("c", Assignments(revision=9, history="h"))
    await store.commit(Batch())
    await store.close()
    store = await StateStore.open(tmp_path / "agent.db")
    mark = await Watermark.open(store)
    assert mark.seen == Seen(control_id="c", history="h", revision=9)
    mark.begin("c", "h2")
    assert mark.seen == Seen(control_id="c", history="h2")
    await store.close()
