"""Finds the instance of a machine, for a host that lost all of its state.

Our agent sends an id of its machine and a key that only this machine can compute. The digest of both
is the key of the instance in the store: with another key, the same id is another machine, so knowing
only the id is not enough. Reads the store; raises what the store raises.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agent.controlplane import records

if TYPE_CHECKING:
    from agent.controlplane.records import InstanceRecord
    from agent.controlplane.store.contract import KeyValue, Store
    from agent.model.wire import Register


def digest(cluster: str, call: Register) -> str:
    """Return the digest for the caller's machine in a cluster; empty if it sends none. Pure."""
    if not call.machine_id or not call.machine_key:
        return ""
    said = f"{cluster}\0{call.machine_id}\0{call.machine_key}"
    return hashlib.sha256(said.encode()).hexdigest()


async def arn_of(store: Store, machine: str) -> tuple[str, KeyValue | None]:
    """Return the ARN of a machine's instance, and its row in the store; empty if there is none."""
    if not machine:
        return "", None
    kv = await store.get(records.machine_key(machine))
    return (kv.value.decode() if kv is not None else ""), kv


async def is_another_host(store: Store, instance: InstanceRecord, call: Register) -> bool:
    """Return whether another host, with another boot id, is connected as this instance.

    Hosts that were cloned without a new machine id send the same data. One host has only one boot id
    at a time.
    """
    before, now = instance.resources.boot_id, call.resources.boot_id
    if before == now:
        return False
    return await store.get(records.alive_key(instance.id)) is not None
