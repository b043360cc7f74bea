"""Every operation of EventBridge that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.events import rules, tags, targets
from agent.controlplane.api.events.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated({**rules.HANDLERS, **targets.HANDLERS, **tags.HANDLERS}, TRANSLATIONS)
