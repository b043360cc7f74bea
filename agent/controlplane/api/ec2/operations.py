"""Every operation of Amazon EC2 that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.ec2 import (
    group_calls,
    instance_calls,
    interface_calls,
    network_calls,
    rule_calls,
    tag_calls,
)
from agent.controlplane.api.ec2.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    served = {
        **group_calls.HANDLERS,
        **rule_calls.HANDLERS,
        **tag_calls.HANDLERS,
        **network_calls.HANDLERS,
        **interface_calls.HANDLERS,
        **instance_calls.HANDLERS,
    }
    return translated(served, TRANSLATIONS)
