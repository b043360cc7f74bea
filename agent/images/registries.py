"""Which registries do not answer at the moment. Pure; callers pass the time.

A registry that fails is not asked for a while by callers that do not need it; the pause doubles
after each consecutive failure. So a launch from a cached image is as fast during an outage as
before.

Tests: ``tests/unit/images/test_failure_kind.py``, ``tests/integration/images/test_pulls.py``.
"""

from __future__ import annotations

from msgspec import Struct

FIRST_PAUSE_S = 15.0
LONGEST_PAUSE_S = 240.0
OUTAGES_MOST = 1000
"""Registries of which an outage is remembered: orders may name ever new ones."""


class _Outage(Struct):
    pause_s: float
    until: float


class Registries:
    """Remembers outages of registries, and images that registries do not have.

    Args:
        absent_s: how long a "not found" or "denied" answer is remembered.
    """

    def __init__(self, *, absent_s: float = 60.0) -> None:
        self._absent_s = absent_s
        self._outages: dict[str, _Outage] = {}
        self._absent: dict[str, float] = {}

    def failed(self, registry: str, now: float) -> None:
        """Note that a registry could not be reached."""
        known = self._outages.get(registry)
        if known and now < known.until:
            return  # several launches may notice the same outage at the same time
        pause_s = min(known.pause_s * 2, LONGEST_PAUSE_S) if known else FIRST_PAUSE_S
        self._outages.pop(registry, None)
        self._outages[registry] = _Outage(pause_s, now + pause_s)
        if len(self._outages) > OUTAGES_MOST:
            del self._outages[next(iter(self._outages))]

    def answered(self, registry: str) -> None:
        """Note that a registry works."""
        self._outages.pop(registry, None)

    def is_away(self, registry: str) -> bool:
        """Tell whether the registry failed the last time."""
        return registry in self._outages

    def may_probe(self, registry: str, now: float) -> bool:
        """Tell whether the pause of a failed registry is over."""
        outage = self._outages.get(registry)
        return outage is not None and now >= outage.until

    def lacks(self, reference: str, now: float) -> None:
        """Note that a registry does not have an image, or denies access to it."""
        # Dropping expired notes here limits their number to the images in use.
        self._absent = {name: until for name, until in self._absent.items() if until > now}
        self._absent[reference] = now + self._absent_s

    def has(self, reference: str) -> None:
        """Note that a registry has an image."""
        self._absent.pop(reference, None)

    def is_lacking(self, reference: str, now: float) -> bool:
        """Tell whether a registry said recently that it does not have an image."""
        return self._absent.get(reference, 0.0) > now
