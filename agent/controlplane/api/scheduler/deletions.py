"""Makes DeleteSchedule and DeleteScheduleGroup idempotent, by the client tokens that SDKs always send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import access, records
from agent.controlplane.schedules.record import DeletionRecord, deletion_key
from agent.controlplane.store.contract import Put

if TYPE_CHECKING:
    from agent.controlplane.parts import Parts
    from agent.controlplane.store.contract import Op


async def was_done(parts: Parts, arn: str, token: str) -> bool:
    """Return whether a call with this token has deleted this already: what is there now is another one."""
    if not token:
        return False
    found = await access.find(parts.store, DeletionRecord, deletion_key(token))
    return found is not None and found.record.arn == arn


def noted(parts: Parts, arn: str, token: str) -> list[Op]:
    """Return what the transaction that deletes something has besides."""
    if not token:
        return []
    record = DeletionRecord(arn=arn, at=parts.clock())
    return [Put(deletion_key(token), records.encode(record))]
