"""Role credentials of tasks: only in memory, never on disk, never in a log.

Control sends them with a task and again before they expire; after a restart it sends all of them
again. Containers request them by an id, which stays the same during the life of the task; the agent
itself asks for those of a task's role, and waits for them. Used from one event loop; touches nothing.

Source: Amazon ECS agent 1.105.1, ``ecs-agent/credentials`` (behaviour of its manager).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from agent.model.payload import RoleType

if TYPE_CHECKING:
    from agent.model.payload import Credentials

LIMIT: Final = 4096
"""Maximum number of stored credentials. Beyond that, those of stopped tasks go first, then the least
recently renewed."""


class RoleCredentials:
    """Stores role credentials of tasks; implements ``upstream.protocol.CredentialStore``."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._by_id: OrderedDict[str, _Kept] = OrderedDict()
        self._newest: dict[tuple[str, str], str] = {}
        """Id of the newest credentials of a task's role."""
        self._expected: dict[str, str] = {}
        """Task by the ids that control has yet to send again."""
        self._waiting: dict[tuple[str, str], list[asyncio.Future[None]]] = {}

    def keep(self, task_arn: str, role_type: str, credentials: Credentials) -> None:
        """Store or replace; ``role_type`` is a ``RoleType``.

        Earlier ids of the task stay valid until ``forget``, because a container may still use them.
        Credentials without an id are ignored, because nothing could request them.
        """
        credentials_id = credentials.credentials_id
        if not credentials_id:
            return
        self._expected.pop(credentials_id, None)
        # Renewed ones go to the end, so the first is always the least recently renewed.
        self._by_id.pop(credentials_id, None)
        self._by_id[credentials_id] = _Kept(task_arn, role_type, credentials)
        self._newest[task_arn, role_type] = credentials_id
        while len(self._by_id) > self._limit:
            self._drop(next(iter(self._by_id)))
        for waiter in self._waiting.pop((task_arn, role_type), ()):
            if not waiter.done():
                waiter.set_result(None)

    def get(self, credentials_id: str) -> Credentials | None:
        """Return the newest credentials with this id, or None."""
        kept = self._by_id.get(credentials_id)
        return kept.credentials if kept is not None else None

    def newest(self, task_arn: str, role_type: str) -> Credentials | None:
        """Return the newest credentials of a task's role; None while there are none."""
        return self.get(self._newest.get((task_arn, role_type), ""))

    def role_type(self, credentials_id: str) -> str:
        """Return the role type of an id; empty for an unknown id."""
        kept = self._by_id.get(credentials_id)
        return kept.role_type if kept is not None else ""

    def task_arn(self, credentials_id: str) -> str:
        """Return the task of an id, also of one that is expected; empty for an unknown id."""
        kept = self._by_id.get(credentials_id)
        return kept.task_arn if kept is not None else self._expected.get(credentials_id, "")

    async def wait(
        self, task_arn: str, role_type: str, *, other_than: Credentials | None = None
    ) -> Credentials:
        """Return the newest credentials of a task's role, as soon as there are any.

        Waits for as long as it takes: callers bound it with ``asyncio.timeout``.

        Args:
            task_arn: the task.
            role_type: a ``RoleType``.
            other_than: credentials that were of no use; others are waited for.
        """
        key = (task_arn, role_type)
        while True:
            newest = self.newest(task_arn, role_type)
            if newest is not None and newest != other_than:
                return newest
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, []).append(waiter)
            try:
                await waiter
            finally:
                self._waits_no_more(key, waiter)

    def expect(self, task_arn: str, credentials_id: str) -> None:
        """Take note that a task has credentials with this id, which control will send again."""
        if credentials_id and credentials_id not in self._by_id:
            self._expected[credentials_id] = task_arn

    def is_expected(self, credentials_id: str) -> bool:
        """Tell whether credentials with this id exist, but have not come yet."""
        return credentials_id in self._expected

    def stopped(self, task_arn: str) -> None:
        """Drop what the containers of a stopped task used. Idempotent.

        Those of its execution role stay until ``forget``: the agent may still have to deliver its logs.
        """
        self.forget(task_arn, RoleType.APPLICATION)
        for credentials_id in self._of(task_arn):
            self._by_id.move_to_end(credentials_id, last=False)

    def forget(self, task_arn: str, role_type: str = "") -> None:
        """Drop the credentials of a task, for one role or both. Idempotent."""
        for credentials_id in self._of(task_arn, role_type):
            self._drop(credentials_id)
        if not role_type:
            self._expected = {i: arn for i, arn in self._expected.items() if arn != task_arn}

    def _of(self, task_arn: str, role_type: str = "") -> list[str]:
        return [
            credentials_id
            for credentials_id, kept in self._by_id.items()
            if kept.task_arn == task_arn and role_type in {"", kept.role_type}
        ]

    def _drop(self, credentials_id: str) -> None:
        kept = self._by_id.pop(credentials_id)
        key = (kept.task_arn, kept.role_type)
        if self._newest.get(key) == credentials_id:
            del self._newest[key]

    def _waits_no_more(self, key: tuple[str, str], waiter: asyncio.Future[None]) -> None:
        waiters = self._waiting.get(key, [])
        if waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[key]

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
