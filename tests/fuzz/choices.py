"""Where a fuzzer's choices come from: a seed, or the bytes of a fuzzer that is guided by coverage."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Choices(Protocol):
    """Makes choices; ``random.Random`` is one."""

    def random(self) -> float:
        """Return a number from 0 to less than 1."""

    def randrange(self, stop: int, /) -> int:
        """Return a number from 0 to less than ``stop``."""

    def choice(self, seq: Sequence[T], /) -> T:
        """Return one of the values."""


class ChoicesOfBytes:
    """Choices that bytes make, so that a change of one byte changes one choice; 0 once they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_used_up(self) -> bool:
        """Whether all bytes were read."""
        return self._at >= len(self._data)

    def random(self) -> float:
        """Return a number from 0 to less than 1."""
        return self._number(2) / 65_536

    def randrange(self, stop: int, /) -> int:
        """Return a number from 0 to less than ``stop``."""
        return self._number(1 if stop <= 256 else 2) % stop

    def choice(self, seq: Sequence[T], /) -> T:
        """Return one of the values."""
        return seq[self.randrange(len(seq))]

    def rest(self) -> bytes:
        """Return the bytes that no choice was made of."""
        found, self._at = self._data[self._at :], len(self._data)
        return found

    def _number(self, size: int) -> int:
        found = int.from_bytes(self._data[self._at : self._at + size], "big")
        self._at += size
        return found


def of_seed(seed: int) -> Choices:
    """Return choices that are the same for the same seed."""
    return random.Random(seed)
