"""What is remembered to save reads, without growing with everything that ever was. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

HOSTS_MOST: Final = 50_000
"""Of how many hosts something is remembered; of others it is read again."""


class Recent(OrderedDict[K, V]):
    """A dictionary of at most so many entries: those that were set last.

    Whoever uses it can do without an entry.
    """

    def __init__(self, most: int = HOSTS_MOST) -> None:
        """Begin empty; ``most`` is the number of entries."""
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        """Set an entry, as the newest one; the oldest gives way."""
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)
