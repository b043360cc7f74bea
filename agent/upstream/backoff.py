"""How long to wait before the next try: jittered and bounded. Pure but for its dice and clock.

Two kinds of waits, for two kinds of trouble: ``Backoff`` for an end that answers and does not do what
it should, which more tries only burden; ``OutageBackoff`` for one that does not answer at all.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

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
        return max(whole * self._dice.uniform(0.5, 1.0), _asked_s(retry_after_s, self._dice))

    def reset(self) -> None:
        """Begin anew; called when a call has succeeded."""
        self._tries = 0


class OutageBackoff:
    """Waits between tries to reach an end that does not answer.

    ============================== ==================================================================
    the first wait                 anything up to ``short_s / 2``: those who lost their connections in
                                   one moment must not come back in one
    away for up to a minute        from ``short_s / 2`` to ``short_s``, so that whoever waits is back
                                   at most that long after the other end
    away for longer                up to a thirtieth of the time that it has been away, or ``limit_s``
    ============================== ==================================================================

    A thousand agents come back over ``short_s`` seconds, not more than about an eighth of them in any
    tenth of a second; and while they wait, each asks less than once a second.
    """

    SHARE: Final = 1 / 30

    def __init__(
        self,
        short_s: float = 2.0,
        limit_s: float = 30.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        dice: random.Random | None = None,
    ) -> None:
        self._short_s = min(short_s, limit_s)
        self._limit_s = limit_s
        self._clock = clock
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._since: float | None = None
        """When the first try failed; None while all is well."""

    def next_s(self, retry_after_s: float = 0.0, *, took_s: float = 0.0) -> float:
        """Return the next wait in seconds.

        Args:
            retry_after_s: what the other end, or something in front of it, asked for.
            took_s: how long the try lasted that failed, which counts as waited for: a host that is
                cut off costs a try its whole deadline. Means nothing for the first failure, with
                which a connection ends that may have lasted for long.
        """
        now = self._clock()
        if self._since is None:
            self._since = now
            wait_s = self._dice.uniform(0.0, self._short_s / 2)
        else:
            whole = max(self._short_s, min((now - self._since) * self.SHARE, self._limit_s))
            least_s = self._dice.uniform(0.0, self._short_s / 8)
            wait_s = max(whole * self._dice.uniform(0.5, 1.0) - took_s, least_s)
        return max(wait_s, _asked_s(retry_after_s, self._dice))

    def over(self) -> None:
        """Begin anew; called when the other end has answered."""
        self._since = None


def _asked_s(retry_after_s: float, dice: random.Random) -> float:
    """Return how long a server may keep us away that asked for so much.

    Those who were told the same time must not all come back in the same moment.
    """
    return min(max(retry_after_s, 0.0), RETRY_AFTER_LIMIT_S) * dice.uniform(1.0, 1.1)
