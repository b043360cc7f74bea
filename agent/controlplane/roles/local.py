"""Roles that are kept here: their credentials are sessions that this control endpoint accepts itself.

A task role is local if a role of its name or ARN is kept here; every other role is one of AWS. Execution roles are
always those of AWS, because an agent needs them for AWS alone.

Tests: ``tests/unit/controlplane/roles/test_local.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.controlplane.authorization import trust
from agent.controlplane.authorization.actions.ecs import TASKS_SERVICE
from agent.controlplane.roles.contract import Assumed, RoleAwaited, RoleRefused
from agent.controlplane.roles.settings import DURATION_S
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.controlplane.store.contract import StoreFailure
from agent.model.payload import Credentials, RoleType

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.iam.directory import Directory
    from agent.controlplane.names import Names

_MEND = (
    f"The role is kept by this control endpoint: its trust policy must let the service {TASKS_SERVICE} call "
    "sts:AssumeRole."
)


class LocalRoles:
    """Gives credentials of roles that are kept here; for one event loop."""

    def __init__(
        self,
        directory: Directory,
        names: Names,
        *,
        clock: Callable[[], float],
        duration_s: float = DURATION_S,
    ) -> None:
        """Take what to work with.

        Args:
            directory: knows the roles.
            names: of this control endpoint.
            clock: Unix seconds.
            duration_s: how long credentials are to be valid, unless a role allows less.
        """
        self._directory = directory
        self._names = names
        self._clock = clock
        self._duration_s = duration_s

    def has(self, role_type: str, role: str) -> bool:
        """Return whether credentials of a task's role come from here; ``role`` is a name or an ARN."""
        return role_type == RoleType.APPLICATION and self._directory.role(role) is not None

    async def assume(self, role: str, session: str) -> Assumed:
        """Return fresh credentials.

        Raises:
            RoleRefused: the role is gone, or does not trust tasks.
            RoleAwaited: the store or the file of secret keys cannot be used now.
        """
        record = self._directory.role(role)
        if record is None:
            raise RoleRefused("there is no such role any more", mend=_MEND)
        names = self._names
        values = {
            "aws:sourceaccount": (names.account,),
            "aws:sourcearn": (f"arn:{names.partition}:ecs:{names.region}:{names.account}:*",),
            "sts:rolesessionname": (session,),
        }
        if not trust.of_service(self._directory.trust(record), TASKS_SERVICE, values):
            raise RoleRefused(f"the role does not trust {TASKS_SERVICE}", mend=_MEND)
        try:
            begun, token = await self._directory.begin(
                record,
                session,
                now=self._clock(),
                duration_s=min(self._duration_s, record.max_session_s),
            )
        except (SecretsFailure, StoreFailure) as error:
            raise RoleAwaited(str(error)) from None
        ends = datetime.fromtimestamp(begun.expires_at, UTC)
        return Assumed(
            Credentials(
                access_key_id=begun.key_id,
                secret_access_key=begun.secret,
                session_token=token,
                role_arn=record.arn(names),
                expiration=ends.isoformat(timespec="seconds").replace("+00:00", "Z"),
            ),
            begun.expires_at,
        )
