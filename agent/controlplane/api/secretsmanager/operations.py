"""Every operation of AWS Secrets Manager that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.secretsmanager import secrets
from agent.controlplane.api.secretsmanager.errors import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return {name: translated(handler) for name, handler in secrets.HANDLERS.items()}
