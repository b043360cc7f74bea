"""Credentials of roles in an answer to a poll: in payloads, and those that were renewed. Pure.

Tests: ``tests/unit/upstream/longpoll/test_credentials.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from agent.errors import BAD_JSON
from agent.model.payload import Credentials, RoleType
from agent.model.status import DesiredStatus
from agent.model.wire import TaskCredentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model.wire import Assignment, Assignments


class _Roles(Struct, frozen=True, rename="camel"):
    """What of a payload is about roles."""

    role_credentials: Credentials | None = None
    execution_role_credentials: Credentials | None = None


_roles = msgspec.json.Decoder(_Roles)


def issued(orders: Assignments) -> Iterator[TaskCredentials]:
    """Yield what can be used of the credentials in an answer, the newest of a role last.

    Credentials of which a payload only says that there will be some are left out, and so are those
    of tasks that are to stop.
    """
    for order in orders.tasks:
        if order.desired_status != DesiredStatus.STOPPED:
            yield from _of_payload(order)
    yield from (each for each in orders.credentials if each.credentials.access_key_id)


def _of_payload(order: Assignment) -> Iterator[TaskCredentials]:
    try:
        roles = _roles.decode(order.payload)
    except BAD_JSON:
        return  # the engine tells what is wrong with it
    for role_type, credentials in (
        (RoleType.APPLICATION, roles.role_credentials),
        (RoleType.EXECUTION, roles.execution_role_credentials),
    ):
        if credentials is not None and credentials.access_key_id:
            yield TaskCredentials(
                task_arn=order.task_arn, role_type=role_type, credentials=credentials
            )
