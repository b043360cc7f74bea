"""Every operation of EventBridge Scheduler that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.scheduler import groups, schedules
from agent.controlplane.api.scheduler.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated({**groups.HANDLERS, **schedules.HANDLERS}, TRANSLATIONS)
