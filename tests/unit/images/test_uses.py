"""What is kept of the use of images: over restarts, with a bound, and through clock steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.images import uses
from agent.images.uses import ImageUse, ImageUses
from agent.state import StateStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    opened = await StateStore.open(tmp_path / "agent.db")
    yield opened
    await opened.close()


async def test_survives_a_restart(tmp_path: Path) -> None:
    store = await StateStore.open(tmp_path / "agent.db")
    known = await ImageUses.open(store)
    known.got("sha256:1", ("a:1",), 100.0)
    known.got("sha256:1", ("a:1", "b:1"), 200.0)
    known.got("sha256:2", ("c:1",), 300.0)
    known.used(["sha256:2", "sha256:unknown"], 500.0)
    known.keep_only(["sha256:1", "sha256:2", "sha256:unknown"])
    before = dict(known.by_id)
    await store.close()
    store = await StateStore.open(tmp_path / "agent.db")
    again = await ImageUses.open(store)
    await store.close()
    assert (
        again.by_id
        == before
        == {
            "sha256:1": ImageUse(names=("a:1", "b:1"), pulled_at=100.0, used_at=200.0),
            "sha256:2": ImageUse(names=("c:1",), pulled_at=300.0, used_at=500.0),
        }
    )


async def test_the_number_is_bounded(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "MOST", 3)
    known = await ImageUses.open(store)
    for number in range(5):
        known.got(str(number), ("a",), 1000.0 * number)
    known.used(["2"], 9000.0)
    known.got("5", ("a",), 9001.0)
    assert set(known.by_id) == {"2", "4", "5"}
    assert (await ImageUses.open(store)).by_id == known.by_id


async def test_names_of_one_image_are_bounded(store: StateStore) -> None:
    known = await ImageUses.open(store)
    for number in range(uses.MOST_NAMES + 5):
        known.got("1", (f"a:{number}",), 1.0)
    assert len(known.by_id["1"].names) == uses.MOST_NAMES


async def test_a_use_is_not_written_at_every_launch(store: StateStore) -> None:
    known = await ImageUses.open(store)
    known.got("1", ("a",), 1000.0)
    known.used(["1"], 1000.0 + uses.EVERY_S - 1)
    assert known.by_id["1"].used_at == 1000.0
    known.used(["1"], 1000.0 + uses.EVERY_S)
    assert known.by_id["1"].used_at == 1060.0


async def test_a_clock_that_was_set_back_is_believed(store: StateStore) -> None:
    known = await ImageUses.open(store)
    known.got("1", ("a",), 9e9)
    known.used(["1"], 1000.0)
    assert known.by_id["1"] == ImageUse(names=("a",), pulled_at=1000.0, used_at=1000.0)
