"""Which images this agent got, and when they were last used; durable, with a bound.

An image is known by the engine's id, because a tag moves to newer images. Only images that a registry
had are kept: they can be got again after a removal. Rows are written with the next transaction of the
store; what a crash loses makes an image look older by a minute, or, if it was just pulled, unknown, so
that it is kept.

Tests: ``tests/unit/images/test_uses.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.state import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.state import StateStore

KIND: Final = "image"
MOST: Final = 2000
"""Maximum number kept; above it, the least recently used are dropped, and their images kept."""
MOST_NAMES: Final = 20
"""Maximum number of names kept of one image."""
EVERY_S: Final = 60.0
"""How exactly the time of the last use is kept."""


class ImageUse(Struct, frozen=True, kw_only=True):
    """One image that the agent got. Times are Unix seconds."""

    names: tuple[str, ...]
    """The names (``Reference.identity``) under which it was got."""
    pulled_at: float
    used_at: float


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(ImageUse).decode


class ImageUses:
    """All images that the agent got, by id. Belongs to one event loop."""

    def __init__(self, store: StateStore, known: Mapping[str, ImageUse]) -> None:
        self._store = store
        self._uses = dict(known)

    @classmethod
    async def open(cls, store: StateStore) -> ImageUses:
        """Return those that an earlier process kept; raises ``StateFailure``."""
        return cls(store, await store.load(KIND, decode))

    @property
    def by_id(self) -> Mapping[str, ImageUse]:
        """Every image that is known."""
        return self._uses

    def got(self, image_id: str, names: tuple[str, ...], now: float) -> None:
        """Note that a registry gave an image, or confirmed that the host has its newest."""
        known = self._uses.get(image_id)
        if known is None:
            self._put(image_id, ImageUse(names=names, pulled_at=now, used_at=now))
            self._drop_oldest()
        elif more := tuple(name for name in names if name not in known.names):
            kept = (*known.names, *more)[-MOST_NAMES:]
            self._put(image_id, replace(known, names=kept, used_at=now))
        else:
            self.used([image_id], now)

    def used(self, image_ids: Iterable[str], now: float) -> None:
        """Note that images are in use; unknown ones are ignored."""
        for image_id in image_ids:
            known = self._uses.get(image_id)
            # A clock that was set back must not leave a time in the future.
            if known is not None and not 0 <= now - known.used_at < EVERY_S:
                pulled_at = min(known.pulled_at, now)
                self._put(image_id, replace(known, used_at=now, pulled_at=pulled_at))

    def keep_only(self, image_ids: Iterable[str]) -> None:
        """Forget images that the host does not have any more."""
        gone = self._uses.keys() - frozenset(image_ids)
        batch = Batch()
        for image_id in gone:
            del self._uses[image_id]
            batch.delete(KIND, image_id)
        if len(batch):
            self._store.note(batch)

    def _put(self, image_id: str, use: ImageUse) -> None:
        self._uses[image_id] = use
        batch = Batch()
        batch.put(KIND, image_id, encode(use))
        self._store.note(batch)

    def _drop_oldest(self) -> None:
        if len(self._uses) > MOST:
            newest = sorted(self._uses, key=lambda key: self._uses[key].used_at)[-MOST:]
            self.keep_only(newest)
