"""Which ended containers of other programs may be removed."""

from __future__ import annotations

import pytest

from agent.images import containers
from agent.runtime.protocol import ContainerState, ContainerSummary


def test_only_ended_ones_of_others() -> None:
    rows = [
        ContainerSummary(id=state, name=state, state=state)
        for state in ("running", "exited", "created", "paused", "dead", "restarting")
    ]
    ours = ContainerSummary(id="o", name="o", state="exited", labels={"ours": "1"})
    found = containers.ended([*rows, ours], lambda row: "ours" in row.labels)
    assert [row.id for row in found] == ["exited", "created", "dead"]


@pytest.mark.parametrize(
    ("status", "created", "finished", "old"),
    [
        ("exited", 100.0, 500.0, False),
        ("exited", 100.0, 300.0, True),
        ("created", 900.0, 0.0, False),
        ("created", 100.0, 0.0, True),
        ("running", 100.0, 300.0, False),
        ("created", 0.0, 0.0, False),
    ],
)
def test_age_counts_from_the_end_or_the_creation(
    status: str, created: float, finished: float, old: bool
) -> None:
    seen = ContainerState(
        id="i",
        name="n",
        running=status == "running",
        status=status,
        created_at=created,
        finished_at=finished,
    )
    assert containers.is_old(seen, 600.0, 1000.0) is old
