"""Network counters of a task, read from ``/proc/<pid>/net/dev`` of a process in its namespace.

Only reads ``/proc``. Blocks briefly, so call it in a thread. A process that is gone raises
``OSError``.

Unlike cgroup files, these are opened for every read: an open ``net/dev`` would keep the namespace,
and with it the task's interface and address, alive after the end of the task.
"""

from __future__ import annotations

import os

from agent.model.metrics import LinkCounters

_READ_BYTES = 65536


def parse_net_dev(text: bytes) -> LinkCounters:
    """Sum the counters of every interface except loopback.

    Lines that are not ``name: 16 numbers`` are skipped.
    """
    totals = [0] * 8
    for line in text.splitlines()[2:]:
        name, colon, rest = line.partition(b":")
        words = rest.split()
        if not colon or len(words) < 16 or name.strip() == b"lo":
            continue
        try:
            numbers = [int(words[i]) for i in (0, 1, 2, 3, 8, 9, 10, 11)]
        except ValueError:
            continue
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
    return LinkCounters(
        rx_bytes=totals[0],
        rx_packets=totals[1],
        rx_errors=totals[2],
        rx_dropped=totals[3],
        tx_bytes=totals[4],
        tx_packets=totals[5],
        tx_errors=totals[6],
        tx_dropped=totals[7],
    )


def add(first: LinkCounters, second: LinkCounters) -> LinkCounters:
    """Return the sum of two sets of counters."""
    return LinkCounters(
        rx_bytes=first.rx_bytes + second.rx_bytes,
        rx_packets=first.rx_packets + second.rx_packets,
        rx_errors=first.rx_errors + second.rx_errors,
        rx_dropped=first.rx_dropped + second.rx_dropped,
        tx_bytes=first.tx_bytes + second.tx_bytes,
        tx_packets=first.tx_packets + second.tx_packets,
        tx_errors=first.tx_errors + second.tx_errors,
        tx_dropped=first.tx_dropped + second.tx_dropped,
    )


def namespace_of(pid: int | str, *, proc: str = "/proc") -> str:
    """Return the name of a process's network namespace, for example ``net:[4026531840]``."""
    return os.readlink(f"{proc}/{pid}/ns/net")  # noqa: PTH115 - a path object costs more than the call


def read_links(pid: int, *, proc: str = "/proc") -> LinkCounters:
    """Return the counters of a process's network namespace."""
    fd = os.open(f"{proc}/{pid}/net/dev", os.O_RDONLY)
    try:
        return parse_net_dev(os.read(fd, _READ_BYTES))
    finally:
        os.close(fd)
