"""Every operation of the CloudWatch Logs API that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.logs import events, groups, streams, tags
from agent.controlplane.api.logs.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    served = {**groups.HANDLERS, **streams.HANDLERS, **events.HANDLERS, **tags.HANDLERS}
    return translated(served, TRANSLATIONS)
