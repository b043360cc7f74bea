"""Every operation of Application Auto Scaling that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.autoscaling import (
    activities,
    policies,
    scheduled_actions,
    tags,
    targets,
)
from agent.controlplane.api.autoscaling.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated(
        {
            **targets.HANDLERS,
            **policies.HANDLERS,
            **scheduled_actions.HANDLERS,
            **activities.HANDLERS,
            **tags.HANDLERS,
        },
        TRANSLATIONS,
    )
