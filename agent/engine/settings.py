"""How the task engine works, and whom it tells what; no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.engine import planner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.engine.tools import StepSettings
    from agent.runtime.protocol import EngineEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How tasks are carried out."""

    steps: StepSettings
    policy: planner.Policy = field(default_factory=planner.Policy)
    cleanup_jitter_s: float = 0.0


def _ignore(*_: object) -> None:
    """Stand for a callback that nobody needs."""


async def _nothing_to_remove(_arns: list[str]) -> None:
    """Stand for a host without anything beside its containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCallbacks:
    """Functions that the task engine calls; none may block."""

    running: Callable[[], None] = _ignore
    """Called when a container has started, so that it can be measured."""
    engine_event: Callable[[EngineEvent], None] = _ignore
    """Called with every event of the container engine."""
    listed: Callable[[list[str]], Awaitable[None]] = _nothing_to_remove
    """Called once, with all tasks of the host, when control has listed what it wants here; what belongs
    to no task may then be removed. Called again after an ``AgentError``."""
