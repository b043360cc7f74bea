"""Every operation of AWS STS that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.sts import sessions
from agent.controlplane.api.translation import translated
from agent.controlplane.authorization import caller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Handlers, Parts

_ROLES_ONLY: Final = "sessions here are those of roles: call AssumeRole"
REASONS: Final[Mapping[str, str]] = {
    "AssumeRoleWithSAML": _ROLES_ONLY,
    "AssumeRoleWithWebIdentity": _ROLES_ONLY,
    "GetFederationToken": _ROLES_ONLY,
    "GetSessionToken": _ROLES_ONLY,
}
"""Why other calls for temporary credentials are not served."""


async def get_caller_identity(parts: Parts, _request: dict[str, Any]) -> dict[str, Any]:
    """Return who calls: a user, a session of a role, or else the account's root, who may do everything."""
    names, who = parts.names, caller.current()
    if who is None or who.is_root:
        return {"UserId": names.account, "Account": names.account, "Arn": names.root()}
    return {"UserId": who.user_id, "Account": names.account, "Arn": who.arn}


HANDLERS: Handlers = {
    "AssumeRole": sessions.assume_role,
    "GetCallerIdentity": get_caller_identity,
}


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return translated(HANDLERS, sessions.TRANSLATIONS)
