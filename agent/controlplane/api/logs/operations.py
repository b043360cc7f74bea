"""Every operation of the CloudWatch Logs API that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.logs import events, groups, streams, tags
from agent.controlplane.api.logs.errors import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    served = {**groups.HANDLERS, **streams.HANDLERS, **events.HANDLERS, **tags.HANDLERS}
    return {operation: translated(handler) for operation, handler in served.items()}
