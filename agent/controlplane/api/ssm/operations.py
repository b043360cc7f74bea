"""Every operation of AWS Systems Manager that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.ssm import parameters, tags
from agent.controlplane.api.ssm.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated({**parameters.HANDLERS, **tags.HANDLERS}, TRANSLATIONS)
