"""Which credentials of an instance's tasks were sent, taken, or must be sent again. Pure but for the time.

They go with the payload of their task first, then by ``IAMRoleCredentialsMessage``. What is not
acknowledged in time is sent again, later each time: an agent does not acknowledge what is of a task that it
does not know. What was taken is remembered for longer than a connection, until an agent says that it is a
new process, which has none.

Tests: ``tests/unit/controlplane/agents/amazon/test_role_credentials.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from agent.controlplane.agents.amazon.deliveries import RESEND_LIMIT_S, RESEND_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.controlplane.roles.contract import Issued

TakenRoles = dict[tuple[str, str], int]
"""Task id and role type to the serial of the credentials that the agent took."""


class _Open(Struct):
    serial: int
    message_id: str
    tries: int
    due_at: float


class RoleMessages:
    """The credentials of one connection."""

    def __init__(self, taken: TakenRoles) -> None:
        self._taken = taken
        self._open: dict[tuple[str, str], _Open] = {}
        self._in_payloads: dict[tuple[str, str], tuple[str, int]] = {}
        """Message and serial of what went with the newest payload of a task."""

    @property
    def next_at(self) -> float:
        """When something is sent again; infinite when nothing is open."""
        return min((item.due_at for item in self._open.values()), default=float("inf"))

    def due(self, issued: Iterable[Issued], now: float) -> list[Issued]:
        """Return what must be sent now, of all that the tasks have whose payload was taken."""
        found = {_key(one): one for one in issued}
        # Of a task that is gone nothing is ever acknowledged.
        self._open = {key: item for key, item in self._open.items() if key in found}
        return [one for key, one in found.items() if self._is_due(key, one.serial, now)]

    def _is_due(self, key: tuple[str, str], serial: int, now: float) -> bool:
        if self._taken.get(key) == serial:
            return False
        item = self._open.get(key)
        return item is None or item.serial != serial or item.due_at <= now

    def sent(self, message_id: str, issued: Issued, now: float) -> None:
        """Note that a message went out with these credentials."""
        before = self._open.get(_key(issued))
        tries = before.tries + 1 if before is not None and before.serial == issued.serial else 0
        wait_s = min(RESEND_S * 2**tries, RESEND_LIMIT_S)
        self._open[_key(issued)] = _Open(issued.serial, message_id, tries, now + wait_s)

    def sent_in_payload(self, message_id: str, issued: Iterable[Issued]) -> None:
        """Note that a message went out with tasks and these credentials; it is sent again as such."""
        for one in issued:
            self._in_payloads[_key(one)] = (message_id, one.serial)

    def acknowledged(self, message_id: str) -> None:
        """Note that a message was taken; one that is not open is fine."""
        sent = [(key, item.message_id, item.serial) for key, item in self._open.items()]
        sent += [(key, *item) for key, item in self._in_payloads.items()]
        for key, sent_id, serial in sent:
            if sent_id == message_id:
                self._open.pop(key, None)
                self._in_payloads.pop(key, None)
                self._taken[key] = max(serial, self._taken.get(key, 0))

    def keep_only(self, task_ids: Iterable[str]) -> None:
        """Forget the tasks that are no longer the instance's."""
        there = set(task_ids)
        of_all: tuple[dict[tuple[str, str], Any], ...] = (
            self._taken,
            self._open,
            self._in_payloads,
        )
        for kept in of_all:
            for gone in [key for key in kept if key[0] not in there]:
                del kept[gone]


def message(issued: Issued, message_id: str, cluster_arn: str) -> dict[str, Any]:
    """Return an ``IAMRoleCredentialsMessage``."""
    credentials = issued.credentials
    return {
        "messageId": message_id,
        "taskArn": issued.task_arn,
        "taskClusterArn": cluster_arn,
        "roleType": issued.role_type,
        "roleCredentials": {
            "credentialsId": credentials.credentials_id,
            "accessKeyId": credentials.access_key_id,
            "secretAccessKey": credentials.secret_access_key,
            "sessionToken": credentials.session_token,
            "roleArn": credentials.role_arn,
            "expiration": credentials.expiration,
        },
    }


def _key(issued: Issued) -> tuple[str, str]:
    return issued.task_id, issued.role_type
