"""Every operation of Amazon EC2 that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.ec2 import group_calls, rule_calls
from agent.controlplane.api.ec2.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated({**group_calls.HANDLERS, **rule_calls.HANDLERS}, TRANSLATIONS)
