"""Which registries do not answer at the moment: pure, the time is handed in.

A registry that fails is left alone for a while, twice as long after each failure in a row, by
everybody who can do without it. That is what keeps a launch from a cached image as quick in an
outage as before it.
"""

from __future__ import annotations

from msgspec import Struct

FIRST_PAUSE_S = 15.0
LONGEST_PAUSE_S = 240.0


class _Outage(Struct):
    pause_s: float
    until: float


class Registries:
    """Remembers the outages of registries and, by reference, what they said they do not have.

    Args:
        absent_s: how long "not here, or not for you" is believed.
    """

    def __init__(self, *, absent_s: float = 60.0) -> None:
        self._absent_s = absent_s
        self._outages: dict[str, _Outage] = {}
        self._absent: dict[str, float] = {}

    def failed(self, registry: str, now: float) -> None:
        """Note that a registry could not be reached."""
        known = self._outages.get(registry)
        if known and now < known.until:
            return  # many launches may learn of one outage at the same time
        pause_s = min(known.pause_s * 2, LONGEST_PAUSE_S) if known else FIRST_PAUSE_S
        self._outages[registry] = _Outage(pause_s, now + pause_s)

    def answered(self, registry: str) -> None:
        """Note that a registry works."""
        self._outages.pop(registry, None)

    def is_away(self, registry: str) -> bool:
        """Tell whether the last thing known of a registry is that it failed."""
        return registry in self._outages

    def may_probe(self, registry: str, now: float) -> bool:
        """Tell whether a registry that is away has been left alone long enough."""
        outage = self._outages.get(registry)
        return outage is not None and now >= outage.until

    def lacks(self, reference: str, now: float) -> None:
        """Note that a registry does not have an image, or not for us."""
        # Dropping what has run out here keeps the notes no longer than the images in use.
        self._absent = {name: until for name, until in self._absent.items() if until > now}
        self._absent[reference] = now + self._absent_s

    def has(self, reference: str) -> None:
        """Note that a registry has an image."""
        self._absent.pop(reference, None)

    def is_lacking(self, reference: str, now: float) -> bool:
        """Tell whether a registry said a short while ago that it does not have an image."""
        return self._absent.get(reference, 0.0) > now
