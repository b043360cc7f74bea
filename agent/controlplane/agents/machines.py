"""Which instance a machine had, for a host that lost everything it wrote down.

An agent of ours says an id of its machine, and a key that only this machine can make. The digest of both
names the instance in the store: the same id with another key names another, so that whoever knows the
id alone is not let in. Reads the store; raises what it raises.
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
    """Return what names the caller's machine in a cluster; empty where it says none. Pure."""
    if not call.machine_id or not call.machine_key:
        return ""
    said = f"{cluster}\0{call.machine_id}\0{call.machine_key}"
    return hashlib.sha256(said.encode()).hexdigest()


async def arn_of(store: Store, machine: str) -> tuple[str, KeyValue | None]:
    """Return the ARN of the instance that a machine had, and the row that says so; empty for none."""
    if not machine:
        return "", None
    kv = await store.get(records.machine_key(machine))
    return (kv.value.decode() if kv is not None else ""), kv


async def is_another_host(store: Store, instance: InstanceRecord, call: Register) -> bool:
    """Tell whether an instance's agent is there, on another boot than the caller's.

    Hosts that were copied without giving each a machine id of its own say the same of themselves. One
    host has one boot at a time.
    """
    before, now = instance.resources.boot_id, call.resources.boot_id
    if before == now:
        return False
    return await store.get(records.alive_key(instance.id)) is not None


def is_proved(instance: InstanceRecord, machine: str, call: Register) -> bool:
    """Tell whether the caller may register as an instance whose ARN it knows. Pure.

    An ARN is no secret. The token of the registration before proves it, and so does the machine; an
    instance whose machine is not known is open to whoever names it.
    """
    return (
        not instance.machine
        or instance.machine == machine
        or instance.client_token == call.client_token
    )
