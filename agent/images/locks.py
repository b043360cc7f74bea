"""Keeps getting and removing of one image apart; other images never wait. Belongs to one event loop.

Images are known by ``Reference.identity``.

Tests: ``tests/unit/images/test_locks.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator


class ImageLocks:
    """Which images are being got, and which are being removed."""

    def __init__(self) -> None:
        self._got: Counter[str] = Counter()
        self._removed: dict[str, asyncio.Event] = {}

    @contextlib.asynccontextmanager
    async def getting(self, identity: str) -> AsyncIterator[None]:
        """Hold an image while it is got; waits only until a removal of this image has ended."""
        while (gone := self._removed.get(identity)) is not None:
            await gone.wait()
        self._got[identity] += 1
        try:
            yield
        finally:
            self._got[identity] -= 1
            if not self._got[identity]:
                del self._got[identity]

    def being_got(self) -> frozenset[str]:
        """Return the images that are being got now."""
        return frozenset(self._got)

    @contextlib.contextmanager
    def removing(self, identities: Iterable[str]) -> Iterator[bool]:
        """Hold all names of an image while it is removed; False, and nothing held, if one is in use."""
        held = frozenset(identities)
        if held & self._got.keys() or held & self._removed.keys():
            yield False
            return
        gone = asyncio.Event()
        self._removed |= dict.fromkeys(held, gone)
        try:
            yield True
        finally:
            for identity in held:
                del self._removed[identity]
            gone.set()
