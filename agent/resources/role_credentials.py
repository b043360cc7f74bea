"""Credentials of the roles of tasks: in memory, never on disk, never in a log.

Control gives them with a task and again before they expire; after a restart it gives all of them
anew. Containers ask for them by an id, which stays the same over the life of their task. Pure; used
from one event loop.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/credentials`` (behaviour of its manager).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.model.payload import Credentials

LIMIT: Final = 4096
"""Credentials kept at once; beyond that those that were not renewed for the longest time go."""


class RoleCredentials:
    """What ``control.protocol.KeepCredentials`` asks for, and where containers' requests look."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._by_id: dict[str, _Kept] = {}

    def keep(self, task_arn: str, role_type: str, credentials: Credentials) -> None:
        """Keep or replace; ``role_type`` is ``TaskApplication`` or ``TaskExecution``.

        Ids that the task had before stay good until ``forget``: a container may still ask by them.
        Credentials without an id are not kept, since nobody could ask for them.
        """
        credentials_id = credentials.credentials_id
        if not credentials_id:
            return
        # Renewed ones go to the end: the first is always the one that was renewed the longest ago.
        self._by_id.pop(credentials_id, None)
        self._by_id[credentials_id] = _Kept(task_arn, role_type, credentials)
        while len(self._by_id) > self._limit:
            del self._by_id[next(iter(self._by_id))]

    def get(self, credentials_id: str) -> Credentials | None:
        """Return the newest credentials with this id, or None."""
        kept = self._by_id.get(credentials_id)
        return kept.credentials if kept is not None else None

    def role_type(self, credentials_id: str) -> str:
        """Return which role of its task an id is for; empty for an unknown one."""
        kept = self._by_id.get(credentials_id)
        return kept.role_type if kept is not None else ""

    def forget(self, task_arn: str, role_type: str = "") -> None:
        """Drop what a task had, of one role or of both. Safe to repeat."""
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
    """Not shown by anything: no text of its own."""

    __slots__ = ("credentials", "role_type", "task_arn")

    def __init__(self, task_arn: str, role_type: str, credentials: Credentials) -> None:
        self.task_arn = task_arn
        self.role_type = role_type
        self.credentials = credentials
