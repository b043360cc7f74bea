"""Every operation of AWS Secrets Manager that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.secretsmanager import changes, secrets
from agent.controlplane.api.secretsmanager.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated({**secrets.HANDLERS, **changes.HANDLERS}, TRANSLATIONS)
