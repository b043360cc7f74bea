"""Counters of a container that go on when it is restarted. Pure.

A container that is restarted gets a new control group with the same name, whose counters begin at
zero. Amazon ECS adds what the runs before have counted (Source: ECS agent 1.105.1, ``agent/stats``,
for containers with a restart policy); here every restart of the same container counts.

Tests: ``tests/unit/metrics/test_continuity.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.metrics.cgroup_texts import COUNTERS, Usage, counters_of

if TYPE_CHECKING:
    from collections.abc import Sequence


class Continuous:
    """The counters of one container over all its runs."""

    def __init__(self) -> None:
        self.run = 0
        """Number of runs that were seen."""
        self._base: list[int] = [0] * COUNTERS
        """What is added to each counter."""
        self._lost: dict[int, int] = {}
        """Counters of this run that are missing by now, by their number, as they were last."""
        self._moved = False
        """Whether any of it is not 0."""
        self._last: Usage | None = None
        self._told: Usage | None = None
        self._most: int | None = None

    def of(self, usage: Usage, *, new_run: bool) -> Usage:
        """Return a reading with counters that never decrease.

        Args:
            usage: what the container's group says; the same object again changes nothing.
            new_run: the group is another one than at the last reading. It also counts as another
                one if its CPU time has decreased.
        """
        if usage is self._last and not new_run and self._told is not None:
            return self._told
        before, self._last = self._last, usage
        if before is None:
            self.run = 1
        else:
            new_run = new_run or (usage.cpu_ns or 0) < (before.cpu_ns or 0)
            self.run += new_run
            self._move(counters_of(before), counters_of(usage), new_run=new_run)
        self._told = self._laid_over(usage) if self._moved else usage
        most = self._told.memory_max_usage_bytes
        if most is not None and self._most is not None and most < self._most:
            self._told = self._told._replace(memory_max_usage_bytes=self._most)
        self._most = self._told.memory_max_usage_bytes
        return self._told

    def _move(
        self, before: Sequence[int | None], now: Sequence[int | None], *, new_run: bool
    ) -> None:
        """Raise the base where a counter began anew.

        In a new run every counter did. Within a run, a sum decreases if one of its devices is gone:
        then it goes on from where it was. A counter that is missing in the last reading of a run, which may
        have ended meanwhile, has counted what it said before.
        """
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            if new_run:
                self._base[index] += self._lost.pop(index, 0) if old is None else old
            elif new is None and old is not None:
                self._lost[index] = old
            elif new is not None and old is None:
                self._base[index] += max(0, self._lost.pop(index, 0) - new)
            elif old is not None and new is not None and new < old:
                self._base[index] += old - new
        self._moved = any(self._base)

    def _laid_over(self, usage: Usage) -> Usage:
        counters = (
            None if value is None else value + base
            for value, base in zip(counters_of(usage), self._base, strict=True)
        )
        return Usage._make((*counters, *usage[COUNTERS:]))
