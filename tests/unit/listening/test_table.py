"""Who may have one more connection, and who gives way."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from agent.listening.limits import Limits
from agent.listening.table import ConnectionTable, OpenConnection, address_of

SMALL = Limits(
    connections=14,
    silent=4,
    silent_per_address=2,
    unproven=6,
    unproven_per_address=3,
    unproven_bytes=1000,
)
MOST_PROVEN = SMALL.connections - SMALL.silent - SMALL.unproven


class Watched:
    """A table, and who had to leave it."""

    def __init__(self, limits: Limits = SMALL) -> None:
        self.cut: list[tuple[OpenConnection, str]] = []
        self.closed: list[int] = []
        self.table = ConnectionTable(limits, lambda entry, why: self.cut.append((entry, why)))
        self._count = 0

    def connect(self, address: str) -> OpenConnection:
        """Return a connection that is silent."""
        self._count += 1
        number = self._count
        return self.table.enter(address, lambda: self.closed.append(number))

    def enter(self, address: str) -> OpenConnection:
        """Return one that has sent something."""
        entry = self.connect(address)
        self.table.speak(entry)
        return entry

    def call(self, address: str) -> OpenConnection:
        """Return one of a known sender, with a call in progress."""
        entry = self.enter(address)
        self.table.begin(entry)
        self.table.prove(entry)
        return entry

    def idle(self, address: str) -> OpenConnection:
        """Return one of a known sender whose call was answered."""
        entry = self.call(address)
        self.table.end(entry)
        return entry


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("127.0.0.1", 5), "127.0.0.1"),
        (("::ffff:10.1.2.3", 5, 0, 0), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        ("", "local"),
        (("no address", 1), "no address"),
    ],
)
def test_what_connections_are_counted_by(peer: object, address: str) -> None:
    assert address_of(peer) == address


def test_an_address_that_has_its_share_loses_its_oldest_and_no_other_does() -> None:
    seen = Watched()
    seen.enter("b")
    for _ in range(4):
        seen.enter("a")
    assert seen.closed == [2]
    assert seen.cut[0][1] == "too many unproven connections from one address"


def test_with_many_addresses_the_one_with_most_gives_way() -> None:
    seen = Watched()
    for address in ("b", "a", "a", "c", "d", "e", "new"):
        seen.enter(address)
    assert seen.closed == [2]
    assert seen.cut[0][1] == "too many unproven connections"


def test_the_silent_give_way_among_themselves() -> None:
    seen = Watched()
    speaking = seen.enter("a")
    for address in ("a", "a", "b", "c", "d", "a"):
        seen.connect(address)
    assert speaking.is_open
    assert seen.closed == [2, 4]
    assert seen.table.silent == SMALL.silent


def test_strangers_never_take_the_place_of_a_known_sender() -> None:
    seen = Watched()
    known = seen.enter("a")
    seen.table.prove(known)
    for number in range(100):
        seen.enter(f"{number}")
        seen.enter("a")
        seen.connect("a")
    assert known.is_open
    assert 1 not in seen.closed


def test_among_known_senders_the_one_that_is_idle_for_longest_gives_way() -> None:
    seen = Watched()
    known = [seen.idle("a") for _ in range(3)]
    seen.table.begin(known[0])
    seen.table.end(known[0])
    assert seen.idle("b").is_open
    last = seen.call("b")
    assert [entry.is_open for entry in known] == [True, False, True]
    assert last.is_proven
    assert last.is_open


def test_a_call_in_progress_is_not_cut_off_for_a_newer_one() -> None:
    seen = Watched()
    waiting = [seen.call("a") for _ in range(3)]
    idle = seen.idle("a")
    newer = seen.call("a")
    assert not idle.is_open
    refused = [seen.call("a") for _ in range(50)]
    assert all(entry.is_open for entry in [*waiting, newer])
    assert not any(entry.is_open for entry in refused)
    assert seen.cut[-1] == (refused[-1], "too many calls in progress")
    seen.table.end(waiting[0])
    assert seen.call("a").is_open
    assert not waiting[0].is_open


def test_an_address_with_many_calls_does_not_keep_others_out() -> None:
    seen = Watched()
    greedy = [seen.call("a") for _ in range(3)]
    other = seen.call("b")
    new = seen.call("c")
    assert [entry.is_open for entry in greedy] == [True, True, False]
    assert new.is_open
    assert other.is_open
    assert not seen.call("a").is_open


def test_a_call_that_began_before_its_sender_was_known_counts() -> None:
    seen = Watched()
    entry = seen.enter("a")
    seen.table.begin(entry)
    seen.table.begin(entry)
    seen.table.prove(entry)
    for _ in range(3):
        seen.idle("a")
    seen.idle("a")
    assert entry.is_open
    seen.table.end(entry)
    seen.table.end(entry)
    seen.table.begin(entry)
    seen.table.prove(entry)
    assert entry.is_open


def test_too_much_in_memory_is_taken_from_who_sent_most() -> None:
    seen = Watched()
    small, large = seen.enter("a"), seen.enter("b")
    seen.table.received(small, 100)
    seen.table.received(large, 800)
    seen.table.received(small, 100)
    assert seen.closed == []
    seen.table.received(small, 50)
    assert seen.closed == [2]
    assert seen.table.unproven_bytes == 250
    seen.table.received(large, 10_000)
    assert seen.table.unproven_bytes == 250, "what is on its way still does not count"
    seen.table.prove(small)
    assert seen.table.unproven_bytes == 0


def test_room_is_made_of_strangers_first() -> None:
    seen = Watched()
    for _ in range(2):
        seen.call("a")
    seen.idle("a")
    seen.enter("b")
    seen.connect("c")
    while seen.table.make_room():
        pass
    assert seen.closed == [5, 4, 3, 2, 1], "a call that waits for longest is the last one"


def test_who_gives_way_is_found_as_fast_among_many() -> None:
    """By counts of operations, since times vary: none of them is for each connection or address."""

    def operations(size: int) -> int:
        limits = structs.replace(SMALL, connections=2 * size + 10, unproven=size, silent=size)
        seen = Watched(limits)
        for number in range(size):
            seen.enter(f"{number}")
        ran = 0

        def count(*_: object) -> Any:
            nonlocal ran
            ran += 1
            return count

        sys.settrace(count)
        try:
            for number in range(20):
                seen.enter(f"new {number}")
        finally:
            sys.settrace(None)
        assert len(seen.closed) == 20
        return ran

    assert operations(1000) == operations(10)


class AnyOrder(RuleBasedStateMachine):
    """Connections come, send, prove to be known, call and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Watched()
        self.entries: list[OpenConnection] = []
        self.spoken: set[OpenConnection] = set()

    @rule(address=st.sampled_from("abcdefgh"))
    def enter(self, address: str) -> None:
        entry = self.seen.connect(address)
        assert entry.is_open, "whoever comes is let in"
        self.entries.append(entry)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def speak(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.entries))
        was_open = entry.is_open
        self.seen.table.speak(entry)
        assert entry.is_open == was_open
        self.spoken.add(entry)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def prove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.entries))
        proven = [one for one in self.entries if one.is_open and one.is_proven]
        had_idle = not all(one.is_busy for one in [*proven, entry])
        busy = [one for one in proven if one.is_busy]
        was_open = entry.is_open
        self.seen.table.prove(entry)
        self.spoken.add(entry)
        cut = [
            one for one in [*proven, entry] if not one.is_open and (one is not entry or was_open)
        ]
        assert len(cut) <= (len(proven) == MOST_PROVEN)
        if had_idle:
            assert all(one.is_open for one in busy), "a call was cut off, not an idle connection"

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), begins=st.booleans())
    def call(self, data: st.DataObject, begins: bool) -> None:
        entry = data.draw(st.sampled_from(self.entries))
        (self.seen.table.begin if begins else self.seen.table.end)(entry)
        assert entry.is_busy == begins

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), size=st.integers(0, 700))
    def receive(self, data: st.DataObject, size: int) -> None:
        entry = data.draw(st.sampled_from(self.entries))
        if entry in self.spoken:
            self.seen.table.received(entry, size)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.seen.table.leave(data.draw(st.sampled_from(self.entries)))

    @invariant()
    def within_limits(self) -> None:
        opened = [entry for entry in self.entries if entry.is_open]
        strangers = [entry for entry in opened if not entry.is_proven]
        speaking = [entry for entry in strangers if entry in self.spoken]
        table = self.seen.table
        assert len(table) == len(opened) <= SMALL.connections
        assert table.unproven == len(speaking) <= SMALL.unproven
        assert table.silent == len(strangers) - len(speaking) <= SMALL.silent
        for address in "abcdefgh":
            of_it = [entry for entry in speaking if entry.address == address]
            assert len(of_it) <= SMALL.unproven_per_address
        held = sum(entry.received_bytes for entry in speaking)
        assert table.unproven_bytes == held <= SMALL.unproven_bytes

    @invariant()
    def each_that_gave_way_was_closed_once(self) -> None:
        assert len(self.seen.cut) == len(self.seen.closed) == len(set(self.seen.closed))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
