"""What the rest of control knows of role credentials: no I/O."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from agent.controlplane.roles import words
from agent.errors import AgentError
from agent.model.payload import Credentials, RoleType


class Assumed(Struct, frozen=True):
    """Fresh credentials of a role; shows no secret."""

    credentials: Credentials
    """Without an id."""
    expires_at: float
    """Unix time by AWS's clock."""


class RoleRefused(AgentError):
    """STS, or this control endpoint for a role of its own, will not give credentials of the role."""

    def __init__(self, text: str, *, mend: str = words.TRUST_MEND) -> None:
        """Take why, and what to do about it."""
        super().__init__(text)
        self.mend = mend


class RoleAwaited(AgentError):
    """STS cannot be asked now, or refuses the keys of control itself: it is asked again."""

    retryable = True


class Assume(Protocol):
    """Gives credentials of roles; ``sts.StsRoles`` is one."""

    async def problem(self) -> str:
        """Return why no role can be assumed at all, with the mend; empty where one can be."""

    async def assume(self, role: str, session: str) -> Assumed:
        """Return fresh credentials.

        Args:
            role: ARN or name.
            session: name of the session in logs of AWS.

        Raises:
            RoleRefused: the same again will be refused.
            RoleAwaited: the same again may succeed.
        """

    def now(self) -> float:
        """Return the Unix time by AWS's clock, as far as it is known."""


class Issued(Struct, frozen=True):
    """Credentials as an agent is given them; shows no secret."""

    serial: int
    """Grows with everything that is issued in this process: what is newer has a greater one."""
    task_id: str
    task_arn: str
    role_type: RoleType
    credentials: Credentials
    expires_at: float


class RoleSource(Protocol):
    """Has the newest credentials of tasks; ``issuer.RoleIssuer`` is one. Never blocks."""

    @property
    def serial(self) -> int:
        """That of what was issued last; 0 for nothing."""

    def current(self, task_id: str, role_type: str) -> Issued | None:
        """Return the credentials of a task's role; None while there are none that are valid."""

    def newer(self, instance_id: str, after: int) -> list[Issued]:
        """Return what an instance's tasks were issued after a serial, oldest first."""

    def waiting(self, task_id: str) -> str:
        """Return why a task has not got its credentials, for a person; empty for no reason."""

    async def problem(self, role_type: str, role: str) -> str:
        """Return why a role of a task cannot be assumed, with the mend; empty where it may be."""


class NoRoles:
    """Of a control that gives no credentials."""

    serial = 0

    def current(self, _task_id: str, _role_type: str) -> Issued | None:
        """Return None."""
        return None

    def newer(self, _instance_id: str, _after: int) -> list[Issued]:
        """Return nothing."""
        return []

    def waiting(self, _task_id: str) -> str:
        """Return nothing."""
        return ""

    async def problem(self, _role_type: str, _role: str) -> str:
        """Return that it gives none."""
        return "this control endpoint gives tasks no credentials of roles; leave the role out"
