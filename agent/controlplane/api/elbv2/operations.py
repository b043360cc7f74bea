"""Every operation of Elastic Load Balancing that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.elbv2 import (
    listener_attributes,
    listeners,
    load_balancers,
    rules,
    tags,
    target_groups,
    targets,
)
from agent.controlplane.api.elbv2.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    served = {
        **load_balancers.HANDLERS,
        **listeners.HANDLERS,
        **listener_attributes.HANDLERS,
        **rules.HANDLERS,
        **target_groups.HANDLERS,
        **targets.HANDLERS,
        **tags.HANDLERS,
    }
    return translated(served, TRANSLATIONS)
