"""Orders that an agent had before it registered again, and does not have any more.

Tests: ``tests/unit/controlplane/agents/test_agents.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.controlplane import access, records
from agent.controlplane.records import AssignRecord
from agent.controlplane.store.contract import TXN_LIMIT, Put, unchanged

if TYPE_CHECKING:
    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import Store


async def write_again(store: Store, record: InstanceRecord, held: set[str]) -> None:
    """Send the orders again that the agent does not have; a write makes them newer.

    That covers orders that an agent received before it lost its state, including orders to stop:
    the agent then reports the task STOPPED, which ends it.
    """
    if record.generation == 1:
        return
    missing = [
        kv
        async for kv, assignment in access.scan(
            store, AssignRecord, records.assignments_prefix(record.id)
        )
        if assignment.task_arn not in held
    ]
    for start in range(0, len(missing), TXN_LIMIT):
        part = missing[start : start + TXN_LIMIT]
        puts = [Put(kv.key, kv.value) for kv in part]
        if not (await store.txn([unchanged(kv) for kv in part], puts)).succeeded:
            # Some of them have just changed and are newer anyway; write the others singly.
            for kv in part:
                await store.txn([unchanged(kv)], [Put(kv.key, kv.value)])
