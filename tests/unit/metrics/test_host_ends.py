"""What the kernel tells of this process's links; traffic is in ``tests/integration/metrics``."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from agent.metrics import host_ends
from agent.metrics.host_ends import HostEnds, Mark

if TYPE_CHECKING:
    import pytest


def test_every_link_of_this_namespace_is_listed() -> None:
    ends = HostEnds()
    ends.look(1000)
    assert ends._counters.keys() == {index for index, _ in socket.if_nameindex()}
    assert ends.changes == 1
    ends.look(1000)
    assert ends.changes == 1, "the same links"
    ends.close()
    ends.close()
    assert ends.open_files == 0
    ends.look(1000)


def test_a_namespace_without_a_host_end_is_never_quiet() -> None:
    ends = HostEnds()
    ends.look(1000)
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
    nsid = ends.nsid_of(descriptor)
    os.close(descriptor)
    assert ends.mark(nsid, 1) is None
    assert not ends.is_quiet(Mark(nsid, (10**6,), (b"",)))
    ends.close()
    assert not ends.is_quiet(Mark(nsid, (10**6,), (b"",)))


def test_marks_need_an_end_for_each_interface_and_the_same_counters() -> None:
    ends = HostEnds()
    ends._by_nsid, ends._counters = {4: (7, 9)}, {7: b"a", 9: b"b"}
    assert ends.mark(4, 1) is None
    assert ends.mark(4, 3) is None
    assert ends.mark(5, 2) is None
    mark = ends.mark(4, 2)
    assert mark == Mark(4, (7, 9), (b"a", b"b"))
    assert ends.is_quiet(mark)
    ends._counters = {7: b"a", 9: b"c"}
    assert not ends.is_quiet(mark), "a packet passed"
    ends._counters = {7: b"a"}
    assert not ends.is_quiet(mark), "a link is gone"
    ends._by_nsid, ends._counters = {4: (7, 9, 11)}, {7: b"a", 9: b"b", 11: b""}
    assert not ends.is_quiet(mark), "another link has come"
    ends.close()


def test_a_host_with_many_other_links_is_not_listed_each_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = HostEnds()
    monkeypatch.setattr(host_ends, "_LINKS_PER_NAMESPACE", 0)
    monkeypatch.setattr(host_ends, "_LOOK_AGAIN", 2)
    listed = []
    for _ in range(6):
        before = ends.changes
        ends.look(1)
        listed.append(ends.changes > before)
        assert ends._counters == {}
    assert listed == [True, False, False, True, False, False]
    ends.close()


def test_links_with_traffic_are_told() -> None:
    ends = HostEnds()
    ends.look(1000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))
    moved = ends.look(1000)
    assert moved is not None
    assert socket.if_nametoindex("lo") in moved
    ends.close()
    assert ends.look(1000) is None, "nobody knows"


def test_links_that_are_others_by_now_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = HostEnds()
    counters = [
        {1: b"a", 7: b"b", 8: b"c"},
        {1: b"a", 7: b"b", 8: b"c", 9: b""},
        {1: b"a", 8: b"c"},
    ]
    by_nsid = [{4: (7,), 5: (8,)}, {4: (7, 9), 5: (8,)}, {5: (8,)}]
    told = iter(zip(counters, by_nsid, strict=True))

    def list_counters() -> dict[int, bytes]:
        seen, of_nsid = next(told)
        monkeypatch.setattr(ends, "_list_ends", lambda: of_nsid)
        return seen

    monkeypatch.setattr(ends, "_list_counters", list_counters)
    assert ends.look(1000) == set()
    assert ends.look(1000) == {7}, "its namespace has another link by now"
    assert ends.look(1000) == {7, 9}, "they are gone"
    ends.close()


def test_a_closed_socket_ends_nothing() -> None:
    ends = HostEnds()
    assert ends._socket is not None
    os.close(os.dup(ends._socket.fileno()))
    ends._socket.close()
    ends.look(1)
    assert ends.nsid_of(0) == -1
    assert ends.open_files == 0
