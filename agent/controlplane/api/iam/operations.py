"""Every operation of IAM that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane.api.iam import access_keys, policies, roles, user_policies, users
from agent.controlplane.api.iam.errors import TRANSLATIONS
from agent.controlplane.api.translation import translated

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers


def handlers() -> Handlers:
    """Return the handlers of one server."""
    found = {
        **roles.HANDLERS,
        **policies.HANDLERS,
        **users.HANDLERS,
        **access_keys.HANDLERS,
        **user_policies.HANDLERS,
    }
    return translated(found, TRANSLATIONS)
