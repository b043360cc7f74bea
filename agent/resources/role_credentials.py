"""Role credentials of tasks: only in memory, never on disk, never in a log.

Control sends them with a task and again before they expire; after a restart it sends all of them
again. Containers request them by an id, which stays the same during the life of the task. Pure;
used from one event loop.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/credentials`` (behaviour of its manager).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.model.payload import Credentials

LIMIT: Final = 4096
"""Maximum number of stored credentials; beyond that, the least recently renewed are dropped."""


class RoleCredentials:
    """Stores role credentials for containers; implements ``upstream.protocol.CredentialStore``."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._by_id: dict[str, _Kept] = {}

    def keep(self, task_arn: str, role_type: str, credentials: Credentials) -> None:
        """Store or replace; ``role_type`` is ``TaskApplication`` or ``TaskExecution``.

        Earlier ids of the task stay valid until ``forget``, because a container may still use them.
        Credentials without an id are ignored, because nothing could request them.
        """
        credentials_id = credentials.credentials_id
        if not credentials_id:
            return
        # Renewed ones go to the end, so the first is always the least recently renewed.
        self._by_id.pop(credentials_id, None)
        self._by_id[credentials_id] = _Kept(task_arn, role_type, credentials)
        while len(self._by_id) > self._limit:
            del self._by_id[next(iter(self._by_id))]

    def get(self, credentials_id: str) -> Credentials | None:
        """Return the newest credentials with this id, or None."""
        kept = self._by_id.get(credentials_id)
        return kept.credentials if kept is not None else None

    def role_type(self, credentials_id: str) -> str:
        """Return the role type of an id; empty for an unknown id."""
        kept = self._by_id.get(credentials_id)
        return kept.role_type if kept is not None else ""

    def forget(self, task_arn: str, role_type: str = "") -> None:
        """Drop the credentials of a task, for one role or both. Idempotent."""
        gone = [
            credentials_id
            for credentials_id, kept in self._by_id.items()
            if kept.task_arn == task_arn and role_type in {"", kept.role_type}
        ]
        for credentials_id in gone:
            del self._by_id[credentials_id]

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"RoleCredentials({len(self._by_id)} kept)"


class _Kept:
    """Has no ``repr`` that shows the credentials."""

    __slots__ = ("credentials", "role_type", "task_arn")

    def __init__(self, task_arn: str, role_type: str, credentials: Credentials) -> None:
        self.task_arn = task_arn
        self.role_type = role_type
        self.credentials = credentials
