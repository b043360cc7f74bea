"""Counters of ``net/dev``."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from agent.metrics import links
from agent.model.metrics import LinkCounters
from tests.unit.metrics.conftest import NET_DEV_HEAD

HEAD = NET_DEV_HEAD.encode()


def test_sums_all_interfaces_but_loopback() -> None:
    text = (
        HEAD
        + b"  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\neth1:10 20 30 40 0 0 0 0 50 60 70 80 0 0 0 0\n"
    )
    assert links.parse_net_dev(text) == LinkCounters(
        rx_bytes=11,
        rx_packets=22,
        rx_errors=33,
        rx_dropped=44,
        tx_bytes=55,
        tx_packets=66,
        tx_errors=77,
        tx_dropped=88,
    )


def test_broken_lines_are_left_out() -> None:
    text = HEAD + b"eth0: 1 2\neth1 1 2 3\neth2: a b c d e f g h i j k l m n o p\n\n"
    assert links.parse_net_dev(text) == LinkCounters()
    assert links.parse_net_dev(b"") == LinkCounters()


@given(st.binary(max_size=400))
def test_nothing_breaks_the_parser(text: bytes) -> None:
    assert isinstance(links.parse_net_dev(HEAD + text), LinkCounters)


@given(st.lists(st.tuples(*[st.integers(0, 2**64)] * 8), max_size=5))
def test_sums_are_exact(rows: list[tuple[int, ...]]) -> None:
    lines = [
        b"veth%d: %s 0 0 0 0 %s 0 0 0 0\n"
        % (i, b" ".join(b"%d" % n for n in row[:4]), b" ".join(b"%d" % n for n in row[4:]))
        for i, row in enumerate(rows)
    ]
    counters = links.parse_net_dev(HEAD + b"".join(lines))
    assert counters.rx_bytes == sum(row[0] for row in rows)
    assert counters.tx_dropped == sum(row[7] for row in rows)
    assert links.add(counters, LinkCounters(rx_bytes=1)).rx_bytes == counters.rx_bytes + 1


def test_reads_this_process() -> None:
    assert links.namespace_of(os.getpid()) == links.namespace_of("self")
    assert links.read_links(os.getpid()).rx_errors >= 0
