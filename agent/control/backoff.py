"""How long to wait before the next try: exponential, jittered, bounded. Pure but for its dice."""

from __future__ import annotations

import random
from typing import Final

RETRY_AFTER_LIMIT_S: Final = 300.0
"""No server may silence an agent for longer, however large its Retry-After is."""


class Backoff:
    """Waits that double from ``first_s`` to ``limit_s``, each shortened by up to a half."""

    def __init__(self, first_s: float, limit_s: float, dice: random.Random | None = None) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._tries = 0

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """Return the next wait in seconds; ``retry_after_s`` is what the server asked for."""
        whole = min(self._first_s * 2.0 ** min(self._tries, 64), self._limit_s)
        self._tries += 1
        jittered = whole * self._dice.uniform(0.5, 1.0)
        asked = min(max(retry_after_s, 0.0), RETRY_AFTER_LIMIT_S)
        # Those who were told the same time must not all come back in the same moment.
        return max(jittered, asked * self._dice.uniform(1.0, 1.1))

    def reset(self) -> None:
        """Begin anew; called when a call has succeeded."""
        self._tries = 0
