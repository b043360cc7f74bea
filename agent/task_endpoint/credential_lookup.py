"""Whose credentials an id names: keys for a task's logs, or credentials of a task's role. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from agent.model.payload import RoleType
from agent.task_endpoint.credentials import Credentials, Found

if TYPE_CHECKING:
    from agent.resources.role_credentials import RoleCredentials


class LogKeys(Protocol):
    """Keys of a task for the log relay; ``awslogs.grants.LogKeys``."""

    @property
    def access_key(self) -> str:
        """Names the task."""

    @property
    def secret_key(self) -> str:
        """What is signed with."""


class LogKeySource(Protocol):
    """Makes keys for the log relay; ``awslogs.grants.LogGrants``."""

    def keys(self, credentials_id: str) -> LogKeys | None:
        """Return the keys of an id; None for one of another kind."""


class CredentialLookup:
    """Finds what an id names; implements ``credentials.FindCredentials``."""

    def __init__(self, log_keys: LogKeySource, roles: RoleCredentials) -> None:
        """Take both sources."""
        self._log_keys = log_keys
        self._roles = roles

    def __call__(self, credentials_id: str) -> Found | None:
        """Return what is known of an id; None for one that nobody knows."""
        keys = self._log_keys.keys(credentials_id)
        if keys is not None:
            made = Credentials(access_key_id=keys.access_key, secret_access_key=keys.secret_key)
            return Found(whose=keys.access_key, kind="GetLogKeys", owner="", credentials=made)
        whose = self._roles.task_arn(credentials_id)
        kept = self._roles.get(credentials_id)
        if kept is None:
            expected = self._roles.is_expected(credentials_id)
            return Found(whose=whose, kind="", owner=whose, credentials=None) if expected else None
        is_execution = self._roles.role_type(credentials_id) == RoleType.EXECUTION
        return Found(
            whose=whose,
            kind="GetCredentialsExecutionRole" if is_execution else "GetCredentials",
            owner="" if is_execution else whose,
            credentials=Credentials(
                access_key_id=kept.access_key_id,
                secret_access_key=kept.secret_access_key,
                role_arn=kept.role_arn,
                token=kept.session_token,
                expiration=kept.expiration,
            ),
        )
