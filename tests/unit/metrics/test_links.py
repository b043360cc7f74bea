"""Counters of ``net/dev``."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from agent.metrics import links
from agent.model.metrics import LinkCounters
from tests.unit.metrics.conftest import NET_DEV_HEAD

HEAD = NET_DEV_HEAD.encode()


def test_every_interface_but_loopback() -> None:
    text = (
        HEAD
        + b"  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\neth1:10 20 30 40 0 0 0 0 50 60 70 80 0 0 0 0\n"
    )
    found = links.parse_net_dev(text)
    assert list(found) == ["eth0", "eth1"]
    assert links.total(found.values()) == LinkCounters(
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
    assert links.parse_net_dev(text) == {}
    assert links.parse_net_dev(b"") == {}


@given(st.binary(max_size=400))
def test_nothing_breaks_the_parser(text: bytes) -> None:
    assert isinstance(links.parse_net_dev(HEAD + text), dict)


@given(st.lists(st.tuples(*[st.integers(0, 2**64)] * 8), max_size=5))
def test_sums_are_exact(rows: list[tuple[int, ...]]) -> None:
    lines = [
        b"veth%d: %s 0 0 0 0 %s 0 0 0 0\n"
        % (i, b" ".join(b"%d" % n for n in row[:4]), b" ".join(b"%d" % n for n in row[4:]))
        for i, row in enumerate(rows)
    ]
    counters = links.total(links.parse_net_dev(HEAD + b"".join(lines)).values())
    assert counters.rx_bytes == sum(row[0] for row in rows)
    assert counters.tx_dropped == sum(row[7] for row in rows)


def link(received: int, sent: int = 0) -> LinkCounters:
    return LinkCounters(rx_bytes=received, tx_bytes=sent)


def test_totals_go_on_in_another_namespace() -> None:
    totals = links.LinkTotals()
    totals.advance("net:[1]", {"eth0": link(100, 10)})
    totals.advance("net:[2]", {"eth0": link(1, 500)})
    assert totals.links == {"eth0": link(101, 510)}
    totals.advance("net:[2]", {"eth0": link(3, 500)})
    assert totals.counters == link(103, 510)


def test_totals_go_on_when_an_interface_is_replaced_or_gone() -> None:
    totals = links.LinkTotals()
    totals.advance("net:[1]", {"eth0": link(100), "eth1": link(7)})
    totals.advance("net:[1]", {"eth0": link(4)})
    assert totals.links == {"eth0": link(104)}
    assert totals.counters == link(111)
    totals.advance("net:[1]", {"eth0": link(4), "eth1": link(1)})
    assert totals.links["eth1"] == link(1), "another interface by the same name"
    assert totals.counters == link(112)


rounds = st.lists(
    st.tuples(
        st.sampled_from(["net:[1]", "net:[2]"]),
        st.dictionaries(st.sampled_from(["eth0", "eth1"]), st.integers(0, 2**64)),
    ),
    max_size=12,
)


@given(rounds)
def test_totals_never_decrease(given_rounds: list[tuple[str, dict[str, int]]]) -> None:
    totals = links.LinkTotals()
    before = 0
    for namespace, received in given_rounds:
        totals.advance(namespace, {name: link(count) for name, count in received.items()})
        assert totals.links.keys() == received.keys()
        assert totals.counters.rx_bytes >= before
        before = totals.counters.rx_bytes


def test_reads_this_process() -> None:
    reader = links.LinkReader(os.getpid())
    assert reader.namespace == links.namespace_of("/proc/self")
    assert "lo" not in reader.read()
    reader.close()
    reader.close()
