"""How long to wait before the next try: bounded, with jitter. Pure except for clock and random.

There are two kinds of waits: ``Backoff`` for a server that answers with errors, which more tries
would only burden, and ``OutageBackoff`` for a server that does not answer at all.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_AFTER_LIMIT_S: Final = 300.0
"""Upper limit for Retry-After: no server may silence an agent for longer."""


class Backoff:
    """Waits that double from ``first_s`` to ``limit_s``, each shortened at random by up to half."""

    def __init__(self, first_s: float, limit_s: float, dice: random.Random | None = None) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, not for security
        self._tries = 0

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """Return the next wait in seconds; ``retry_after_s`` is the server's Retry-After."""
        whole = min(self._first_s * 2.0 ** min(self._tries, 64), self._limit_s)
        self._tries += 1
        return max(whole * self._dice.uniform(0.5, 1.0), _asked_s(retry_after_s, self._dice))

    def reset(self) -> None:
        """Start over; call it after a success."""
        self._tries = 0


class OutageBackoff:
    """Waits between tries to reach a server that does not answer.

    ============================== ==================================================================
    first wait                     random, up to ``short_s / 2``: agents that lost their connections
                                   at once must not all reconnect at once
    outage of up to a minute       ``short_s / 2`` to ``short_s``, so that an agent reconnects at most
                                   that long after the server is back
    longer outage                  up to a thirtieth of the outage so far, or ``limit_s``
    ============================== ==================================================================

    A thousand agents reconnect over ``short_s`` seconds, at most about an eighth of them in any
    tenth of a second. While they wait, each tries less than once a second.
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
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, not for security
        self._since: float | None = None
        """When the first try failed; None if there is no outage."""

    def next_s(self, retry_after_s: float = 0.0, *, took_s: float = 0.0) -> float:
        """Return the next wait in seconds.

        Args:
            retry_after_s: Retry-After of the server, or of a proxy in front of it.
            took_s: duration of the failed try, which counts as part of the wait: on a host without
                a network, a try takes its whole deadline. Ignored for the first failure, which ends
                a connection that may have lasted for long.
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
        """Start over; call it once the server has answered."""
        self._since = None


def _asked_s(retry_after_s: float, dice: random.Random) -> float:
    """Return how long to wait for a server that sent this Retry-After.

    Adds jitter: agents that got the same value must not all come back at the same moment.
    """
    return min(max(retry_after_s, 0.0), RETRY_AFTER_LIMIT_S) * dice.uniform(1.0, 1.1)
