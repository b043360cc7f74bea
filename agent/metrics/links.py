"""Network counters of a namespace, read from ``net/dev`` of a process in it.

Only reads ``/proc``. Blocks briefly, so call it in a thread. A process that is gone raises
``OSError``.

Unlike cgroup files, ``net/dev`` is opened for every read: an open one would keep the namespace, and
with it the task's interface and address, alive after the end of the task. The directory of the
process does stay open: it keeps nothing alive, and never becomes that of another process with the
same pid.

Tests: ``tests/unit/metrics/test_links.py``.
"""

from __future__ import annotations

import os
from functools import reduce
from typing import TYPE_CHECKING, Final

from agent.model.metrics import LinkCounters

if TYPE_CHECKING:
    from collections.abc import Iterable

Links = dict[str, LinkCounters]
"""Counters by interface name."""

_READ_BYTES: Final = 65536
NOTHING: Final = LinkCounters()


def parse_net_dev(text: bytes) -> Links:
    """Return the counters of every interface except loopback.

    Lines that are not ``name: 16 numbers`` are skipped.
    """
    found: Links = {}
    for line in text.split(b"\n")[2:]:
        name, colon, rest = line.partition(b":")
        words = rest.split()
        name = name.strip()
        if not colon or len(words) < 16 or name == b"lo":
            continue
        try:
            numbers = [int(word) for word in words]
        except ValueError:
            continue
        found[name.decode(errors="replace")] = LinkCounters(
            rx_bytes=numbers[0],
            rx_packets=numbers[1],
            rx_errors=numbers[2],
            rx_dropped=numbers[3],
            tx_bytes=numbers[8],
            tx_packets=numbers[9],
            tx_errors=numbers[10],
            tx_dropped=numbers[11],
        )
    return found


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


def total(counters: Iterable[LinkCounters]) -> LinkCounters:
    """Return the sum of any number of sets of counters."""
    return reduce(add, counters, NOTHING)


def went_back(before: LinkCounters, now: LinkCounters) -> bool:
    """Tell whether a counter decreased, which shows that the interface is another one."""
    return (
        now.rx_bytes < before.rx_bytes
        or now.tx_bytes < before.tx_bytes
        or now.rx_packets < before.rx_packets
        or now.tx_packets < before.tx_packets
        or now.rx_errors < before.rx_errors
        or now.tx_errors < before.tx_errors
        or now.rx_dropped < before.rx_dropped
        or now.tx_dropped < before.tx_dropped
    )


class LinkTotals:
    """Counters of one container or task that go on when its namespace or an interface is replaced."""

    def __init__(self) -> None:
        self.links: Links = {}
        """The interfaces that are there now."""
        self.counters = NOTHING
        """The sum of all interfaces, also of those that are gone."""
        self.run = 0
        """How often interfaces were replaced: no rate spans that."""
        self._namespace = ""
        self._last: Links = {}
        self._base: Links = {}
        self._gone = NOTHING

    def advance(self, namespace: str, now: Links) -> None:
        """Take the counters of a namespace as they are now."""
        if now is self._last and namespace == self._namespace:
            return
        fresh = namespace != self._namespace
        replaced = fresh
        for name, before in self._last.items():
            current = now.get(name)
            if current is None:
                self._gone = total((self._gone, before, self._base.pop(name, NOTHING)))
                replaced = True
            elif fresh or went_back(before, current):
                self._base[name] = add(self._base.get(name, NOTHING), before)
                replaced = True
        self.run += replaced
        self._namespace, self._last = namespace, now
        base = self._base
        self.links = (
            {name: add(base[name], one) if name in base else one for name, one in now.items()}
            if base
            else now
        )
        here = list(self.links.values())
        alone = len(here) == 1 and self._gone is NOTHING
        self.counters = here[0] if alone else total((*here, self._gone))


class LinkReader:
    """Reads the namespace of one process; not thread-safe."""

    def __init__(self, pid: int, *, proc: str = "/proc") -> None:
        """Open the directory of a process.

        Raises:
            OSError: there is no such process.
        """
        self._fd = os.open(f"{proc}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._text = b""
        self._links: Links = {}
        try:
            self.namespace = namespace_of(".", dir_fd=self._fd)
        except OSError:
            self.close()
            raise

    def read(self) -> Links:
        """Return the counters by interface; the same object again if they did not change.

        Raises:
            OSError: the process is gone, or has left its namespace.
        """
        if namespace_of(".", dir_fd=self._fd) != self.namespace:
            raise ProcessLookupError("the process is in another network namespace by now")
        fd = os.open("net/dev", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            text = os.read(fd, _READ_BYTES)
        finally:
            os.close(fd)
        if text != self._text:
            self._text, self._links = text, parse_net_dev(text)
        return self._links

    def open_namespace(self) -> int:
        """Return an open file of the namespace, which keeps it alive: close it at once.

        Raises:
            OSError: the process is gone.
        """
        return os.open("ns/net", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)

    def close(self) -> None:
        """Close the directory; may be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def namespace_of(process: str, *, dir_fd: int | None = None) -> str:
    """Return the name of a process's network namespace, for example ``net:[4026531840]``.

    ``process`` is the path of its directory in ``/proc``, from ``dir_fd`` on.
    """
    return os.readlink(f"{process}/ns/net", dir_fd=dir_fd)
