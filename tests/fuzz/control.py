"""Control's parts around a store of their own, with one host, and without any server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from agent.controlplane import records
from agent.controlplane.audit.files import AuditSettings
from agent.controlplane.names import new_id
from agent.controlplane.records import AliveRecord, AttributeRecord, InstanceRecord
from agent.controlplane.server.opening import open_all
from agent.controlplane.server.settings import ControlSettings
from agent.controlplane.store.contract import Put
from agent.model.resources import HostResources
from tests.support.control_endpoint import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.server.opening import Opened


@contextlib.asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Opened]:
    """Open what control has, and close it at the end of the block."""
    settings = ControlSettings(
        data_dir=directory,
        keys_file=directory / "credentials",
        audit=AuditSettings(directory / "audit.jsonl"),
    )
    async with contextlib.AsyncExitStack() as stack:
        control = await open_all(settings, stack)
        await _add_host(control)
        yield control


async def _add_host(control: Opened) -> None:
    instance_id = new_id()
    record = InstanceRecord(
        id=instance_id,
        arn=control.parts.names.instance("default", instance_id),
        cluster="default",
        client_token=instance_id,
        resources=HostResources(cpu_units=4096, memory_mib=8192, engine_version="20.10.24"),
        attributes={name: AttributeRecord(value=value) for name, value in CAPABILITIES.items()},
        agent_version="0.1.0",
        registered_at=1_700_000_000.5,
    )
    lease = await control.store.grant_lease(3600)
    alive = records.encode(AliveRecord(generation=1))
    await control.store.txn(
        [],
        [
            Put(records.instance_key("default", instance_id), records.encode(record)),
            Put(records.alive_key(instance_id), alive, lease),
        ],
    )
