"""Every operation of AWS STS that is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.parts import Handlers, Parts

_NO_SESSIONS: Final = (
    "keys of control do not expire and may do everything; tasks get credentials of roles of AWS"
)
REASONS: Final[Mapping[str, str]] = {
    "AssumeRole": _NO_SESSIONS,
    "AssumeRoleWithSAML": _NO_SESSIONS,
    "AssumeRoleWithWebIdentity": _NO_SESSIONS,
    "GetFederationToken": _NO_SESSIONS,
    "GetSessionToken": _NO_SESSIONS,
}
"""Why calls for temporary credentials are not served."""


async def get_caller_identity(parts: Parts, _request: dict[str, Any]) -> dict[str, Any]:
    """Return account and root: every key of control may do everything, as the owner of an account may."""
    names = parts.names
    return {"UserId": names.account, "Account": names.account, "Arn": names.root()}


HANDLERS: Handlers = {"GetCallerIdentity": get_caller_identity}


def handlers() -> Handlers:
    """Return the handlers of one server."""
    return HANDLERS
