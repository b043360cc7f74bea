"""Scale-in protection for agents: ``POST /v1/instances/{id}/protection`` (``model.protection``).

An agent speaks for the tasks that are placed on its host, and for no others: of those it learns
nothing but that they are missing.

Tests: ``tests/unit/controlplane/agents/test_protection_calls.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.controlplane import records
from agent.controlplane.agents.longpoll.errors import InvalidParameter, InvalidRequest
from agent.controlplane.bounds import OutOfBounds
from agent.controlplane.names import parse_arn
from agent.controlplane.tasks import protection
from agent.errors import BAD_JSON
from agent.model.protection import ProtectionCall, ProtectionFailure, ProtectionOutcome

if TYPE_CHECKING:
    from agent.controlplane.parts import Parts
    from agent.controlplane.records import InstanceRecord, TaskRecord

_SHOWN = 256
_call = msgspec.json.Decoder(ProtectionCall)


def read(body: bytes) -> ProtectionCall:
    """Return what a call asks for; raises ``InvalidRequest``."""
    try:
        return _call.decode(body)
    except BAD_JSON as error:
        raise InvalidRequest(
            f"the call about a task's protection cannot be read: {error}"
        ) from None


async def answer(
    parts: Parts, instance: InstanceRecord, asked: ProtectionCall
) -> ProtectionOutcome:
    """Return a task's protection, changed first if the call says so.

    Raises:
        InvalidParameter: the protection would last too short or too long.
        StoreFailure: it cannot be read, or may not be changed.
    """
    arn = asked.task_arn
    parsed = parse_arn(arn)
    if parsed is None or parsed.kind != "task" or len(parsed.path) != 2:
        missing = ProtectionFailure(arn=arn[:_SHOWN], reason=protection.MISSING)
        return ProtectionOutcome(failures=[missing])

    def is_known(task: TaskRecord) -> bool:
        return task.instance_id == instance.id and task.arn == arn

    arns = {records.task_key(*parsed.path): arn}
    if asked.change is None:
        return await protection.read(parts.store, arns, clock=parts.clock, is_known=is_known)
    try:
        return await protection.update(
            parts.store, arns, asked.change, clock=parts.clock, is_known=is_known
        )
    except OutOfBounds as error:
        raise InvalidParameter(str(error)) from None
