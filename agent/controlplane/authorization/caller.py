"""Who calls: the identity that every admitted request carries. Pure."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from agent.controlplane.authorization.grants import Grants
    from agent.controlplane.authorization.open_calls import AllowedCall
    from agent.controlplane.names import Names

ROOT: Final = "Root"
USER: Final = "IAMUser"
ROLE: Final = "AssumedRole"
AGENT: Final = "Agent"
"""Types of callers, with CloudTrail's words; an agent is one of ours, by its token."""


class Caller(Struct, frozen=True):
    """An admitted caller; has nothing secret."""

    type: str
    """``ROOT``, ``USER``, ``ROLE`` or ``AGENT``."""
    name: str
    """Of the user or role; of a key in the file of keys; ``root`` for the owner on the Unix socket, ``anyone``
    with ``--open``."""
    arn: str = ""
    key_id: str = ""
    """Of the access key that signed; empty if none had to."""
    user_id: str = ""
    """The unique id: ``AIDA...`` of a user, ``AROA...:SESSION`` of a role's session."""
    role_arn: str = ""
    """Of the role, for a session of one."""

    @property
    def is_root(self) -> bool:
        """Whether the caller may do everything, whatever policies say."""
        return self.type == ROOT


_current: ContextVar[AllowedCall | None] = ContextVar("caller", default=None)
"""Set by ``front.service_api`` around each handler; handlers get the request's members alone."""


def current() -> Caller | None:
    """Return who makes the call that is being answered; None outside of a call."""
    found = _current.get()
    return None if found is None else found.caller


def principal(names: Names) -> str:
    """Return the ARN of who makes that call, as answers have it; that of the root outside of a call."""
    who = current()
    return names.root() if who is None or not who.arn else who.arn


def current_grants() -> Grants | None:
    """Return what the policies of that caller say; None for one who may do everything."""
    found = _current.get()
    return None if found is None else found.grants


def current_call() -> AllowedCall | None:
    """Return the call that is being answered, with what it needed of policies; None outside of a call."""
    return _current.get()


def answering(call: AllowedCall) -> None:
    """Note who makes the call that is being answered in this context, and by what right."""
    _current.set(call)
