"""Every operation of the CloudWatch API that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.cloudwatch import alarms, data, listing, statistics

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return {**data.HANDLERS, **statistics.HANDLERS, **listing.HANDLERS, **alarms.HANDLERS}
