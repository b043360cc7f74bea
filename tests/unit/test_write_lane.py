"""A lane writes in order, holds no more than it may, and ends."""

from __future__ import annotations

import threading

from agent.write_lane import WriteLane

LIMIT_S = 30.0


def test_everything_is_written_in_order_before_it_is_closed() -> None:
    written: list[int] = []
    lane: WriteLane[int] = WriteLane(written.extend, most=10_000, name="a test")
    assert all(lane.put(number) for number in range(1000))
    lane.close(LIMIT_S)
    assert written == list(range(1000))
    assert not lane.put(1)
    lane.close(LIMIT_S)


def test_what_waits_is_bounded_by_its_weight() -> None:
    disk, begun, written = threading.Event(), threading.Event(), []

    def write(items: list[str]) -> None:
        begun.set()
        disk.wait(LIMIT_S)
        written.extend(items)

    lane: WriteLane[str] = WriteLane(write, most=100, name="a test")
    assert lane.put("first", 1000), "one thing alone is taken, whatever its weight"
    assert begun.wait(LIMIT_S)
    assert lane.put("second", 60)
    assert not lane.put("third", 50)
    assert lane.put("fourth", 40)
    assert lane.waiting == 2
    disk.set()
    lane.close(LIMIT_S)
    assert written == ["first", "second", "fourth"]


def test_a_disk_that_hangs_does_not_hold_the_end() -> None:
    disk = threading.Event()
    lane: WriteLane[int] = WriteLane(lambda _: disk.wait(LIMIT_S), most=1, name="a test")
    lane.put(1)
    lane.close(0.01)
    disk.set()
    lane.close(LIMIT_S)
