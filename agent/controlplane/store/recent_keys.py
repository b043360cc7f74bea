"""Keys that were written or read last, kept in memory so that reading them again needs no other thread.

What is kept is the store as it was at its newest revision that was delivered: every commit passes here before anybody
is told of it, so that whoever waited for a transaction reads what it wrote. A reader thread may see a commit a moment
before. Nothing is answered from here until that commit was delivered, too: who has read something never reads anything
older afterwards.

Pure; for one event loop. Tests: ``tests/unit/controlplane/store/test_recent_keys.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.controlplane.store.contract import Event, KeyValue

MOST_BYTES: Final = 16 * 1024 * 1024
_OVERHEAD_BYTES: Final = 300
"""What a key takes besides its name and its value."""


class RecentKeys:
    """At most so many bytes of keys; the one that was not used for longest gives way."""

    def __init__(self, revision: int, most_bytes: int = MOST_BYTES) -> None:
        """Begin empty, with a store at ``revision``."""
        self._most_bytes = most_bytes
        self._kept: dict[str, KeyValue] = {}
        """The one that was used last is at the end."""
        self._bytes = 0
        self._delivered = revision
        """Every commit up to here has passed."""
        self._seen = revision
        """The newest revision that any reader may have seen."""
        self.losses = 0
        """How often a key was taken out: what was read before may not be taken in after it."""

    def find(self, keys: Iterable[str]) -> list[KeyValue] | None:
        """Return keys as they are, in order; None if one of them is not here, or it is not the time to answer."""
        if self._delivered < self._seen:
            return None
        kept, found = self._kept, []
        for key in keys:
            kv = kept.pop(key, None)
            if kv is None:
                return None
            kept[key] = kv
            found.append(kv)
        return found

    def deliver(self, revision: int, events: Sequence[Event]) -> None:
        """Take in a commit; call it in the order of revisions, before anybody is told."""
        for event in events:
            # A reader may have been faster. Until all that it saw has passed, nothing is answered.
            if event.type == "put":
                self._put(event.kv)
            else:
                self._drop(event.kv.key)
                self.losses += 1
        self._delivered = max(self._delivered, revision)

    def saw(self, revision: int) -> None:
        """Note that somebody has read the store as it was at a revision."""
        self._seen = max(self._seen, revision)

    def take(self, found: Iterable[KeyValue], losses: int) -> None:
        """Take in what was read.

        Args:
            found: keys as a reader thread found them.
            losses: the number from before it began; if there were more since, what it found may be gone.
        """
        for kv in found:
            if losses != self.losses:
                return
            old = self._kept.get(kv.key)
            if old is None or old.mod_revision < kv.mod_revision:
                self._put(kv)

    def _put(self, kv: KeyValue) -> None:
        self._drop(kv.key)
        self._kept[kv.key] = kv
        self._bytes += _size(kv)
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))
            self.losses += 1

    def _drop(self, key: str) -> None:
        kv = self._kept.pop(key, None)
        if kv is not None:
            self._bytes -= _size(kv)


def _size(kv: KeyValue) -> int:
    return len(kv.key) + len(kv.value) + _OVERHEAD_BYTES
