"""Every operation of IAM that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.iam import policies, roles
from agent.controlplane.api.iam.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated({**roles.HANDLERS, **policies.HANDLERS}, TRANSLATIONS)
