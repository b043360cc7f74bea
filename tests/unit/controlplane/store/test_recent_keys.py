"""Keys in memory: what they answer is what the store had at one time, and that time never goes back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from agent.controlplane.store.contract import Event, KeyValue, Put
from agent.controlplane.store.recent_keys import RecentKeys
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ["/a", "/b", "/c", "/d"]
State = dict[str, KeyValue]


class _Reader(NamedTuple):
    """A reader thread at work: what it saw, and when it began."""

    revision: int
    found: list[KeyValue]
    losses: int


class _World:
    """A store whose commits, deliveries and readers come in any order that is possible."""

    def __init__(self, draw: random.Random, most: int) -> None:
        self.draw = draw
        self.recent = RecentKeys(1, most)
        self.states: list[State] = [{}, {}]
        self.waiting: list[tuple[int, list[Event]]] = []
        self.readers: list[_Reader] = []
        self.known = 1
        """Of what was answered last, by anybody."""

    def keys(self) -> list[str]:
        return self.draw.sample(KEYS, self.draw.randint(1, 3))

    def commit(self) -> None:
        revision, state, events = len(self.states), dict(self.states[-1]), []
        for key in self.keys():
            if self.draw.random() < 0.6:
                kv = state[key] = KeyValue(key, b"%d" % revision, 1, revision, 1)
                events.append(Event("put", kv))
            elif state.pop(key, None) is not None:
                events.append(Event("delete", KeyValue(key, b"", 0, revision, 0)))
        if events:
            self.states.append(state)
            self.waiting.append((revision, events))

    def deliver(self) -> None:
        if self.waiting:
            revision, events = self.waiting.pop(0)
            self.recent.deliver(revision, events)
            self.known = max(self.known, revision)  # whoever made it is told

    def begin(self) -> None:
        """A reader sees all that is committed, delivered or not, and tells of it later."""
        state = self.states[-1]
        found = [state[key] for key in self.keys() if key in state]
        self.readers.append(_Reader(len(self.states) - 1, found, self.recent.losses))

    def end(self) -> None:
        if self.readers:
            reader = self.readers.pop(self.draw.randrange(len(self.readers)))
            self.recent.saw(reader.revision)
            self.recent.take(reader.found, reader.losses)
            self.known = max(self.known, reader.revision)

    def find(self) -> None:
        keys = self.keys()
        found = self.recent.find(keys)
        if found is not None:
            possible = [[state.get(key) for key in keys] for state in self.states[self.known :]]
            assert found in possible


@pytest.mark.parametrize("most", [400, 1500, 100_000])
def test_answers_are_of_one_time_that_never_goes_back(most: int) -> None:
    for seed in range(500):
        world = _World(random.Random(seed), most)
        steps = [world.commit, world.deliver, world.begin, world.end, world.find, world.find]
        for _ in range(60):
            world.draw.choice(steps)()


def test_no_more_is_kept_than_may_be_and_the_least_used_goes() -> None:
    recent = RecentKeys(1, 1000)

    def put(key: str, revision: int) -> None:
        kv = KeyValue(key, b"x" * 100, revision, revision, 1)
        recent.deliver(revision, [Event("put", kv)])

    put("/a", 2)
    put("/b", 3)
    assert recent.find(["/a"]) is not None
    put("/c", 4)
    assert recent.find(["/b"]) is None
    assert recent.find(["/a", "/c"]) is not None


async def test_what_was_written_is_read_without_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path / "s.db")
    await store.txn([], [Put("/a", b"1"), Put("/b", b"2")])
    reads: list[object] = []
    read = SqliteStore._read

    async def noted(self: SqliteStore, how: object) -> object:
        reads.append(how)
        return await read(self, how)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteStore, "_read", noted)
    assert set(await store.get_many(["/a", "/b"])) == {"/a", "/b"}
    assert (found := await store.get("/a")) is not None
    assert found.value == b"1"
    assert reads == []
    await store.close()
    # A store that was opened again reads each once.
    store = await SqliteStore.open(tmp_path / "s.db")
    for _ in range(3):
        assert (found := await store.get("/b")) is not None
        assert found.value == b"2"
    assert len(reads) == 1
    await store.close()
