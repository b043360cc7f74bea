"""When a failed pull is tried again. Pure.

Trouble of registry or network: 5 tries, 1.1 s to 5 s apart, as the Amazon ECS agent 1.105.1. A registry
that limits requests (429) is given longer: what its text names as ``retry-after``, else 10 s, doubling. The
engine shows neither status nor headers of a registry, only that text. Everything else is final at once.

Tests: ``tests/unit/images/test_retries.py``.
"""

from __future__ import annotations

import re
from typing import Final

from agent.images.failure_kind import FailureKind

TRIES: Final = 5
FIRST_WAIT_S: Final = 1.1
LONGEST_WAIT_S: Final = 5.0
LIMITED_FIRST_WAIT_S: Final = 10.0
LIMITED_LONGEST_WAIT_S: Final = 120.0
"""Also for a registry that names a longer time: the reason of the wait is shown meanwhile."""
JITTER: Final = 0.2

_RETRY_AFTER = re.compile(
    r"retry-after:?\s*([0-9]+(?:\.[0-9]+)?)\s*(ns|\u00b5s|us|ms|s|m|h)?", re.IGNORECASE
)
_UNIT_S = {"ns": 1e-9, "\u00b5s": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def pause_s(kind: FailureKind, failed: int, text: str, chance: float) -> float | None:
    """Return how long to wait before the next try; None if there is none.

    Args:
        kind: what the last failure was.
        failed: how many tries have failed.
        text: the text of the last failure.
        chance: from 0 to 1; spreads the tries of several hosts.
    """
    if failed >= TRIES:
        return None
    if kind is FailureKind.TROUBLE:
        wait_s = min(FIRST_WAIT_S * 2.0 ** (failed - 1), LONGEST_WAIT_S)
    elif kind is FailureKind.LIMITED:
        wait_s = min(LIMITED_FIRST_WAIT_S * 2.0 ** (failed - 1), LIMITED_LONGEST_WAIT_S)
        wait_s = max(FIRST_WAIT_S, min(_retry_after_s(text, wait_s), LIMITED_LONGEST_WAIT_S))
    else:
        return None
    return wait_s * (1 + JITTER * chance)


def _retry_after_s(text: str, otherwise_s: float) -> float:
    found = _RETRY_AFTER.search(text)
    if found is None:
        return otherwise_s
    return float(found[1]) * _UNIT_S[(found[2] or "s").lower()]
