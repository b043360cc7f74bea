"""Whether the container engine works, in the form that Amazon ECS expects. Pure.

Checked at each heartbeat of the ACS session, reported once per check. Source: Amazon ECS agent
1.105.1, ``ecs-agent/doctor``.

Tests: ``tests/unit/upstream/amazon/tcs/test_requests.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.upstream.amazon.tcs.requests import Status

if TYPE_CHECKING:
    from collections.abc import Callable

INITIALIZING: Final = "INITIALIZING"
OK: Final = "OK"
IMPAIRED: Final = "IMPAIRED"


class RuntimeHealth:
    """The result of the last check, and whether it was reported."""

    def __init__(self, engine_up: Callable[[], bool], clock: Callable[[], float]) -> None:
        """``engine_up`` must not block; ``clock`` returns Unix seconds."""
        self._engine_up = engine_up
        self._clock = clock
        now = clock()
        self._status = Status(INITIALIZING, now, now)
        self._told = False

    def judge(self) -> None:
        """Check whether the engine answers now."""
        now = self._clock()
        value = OK if self._engine_up() else IMPAIRED
        changed_at = self._status.changed_at if value == self._status.value else now
        self._status = Status(value, now, changed_at)
        self._told = False

    def untold(self) -> Status | None:
        """Return the last result and mark it as reported; None if it already was."""
        if self._told:
            return None
        self._told = True
        return self._status
