"""The statuses that an instance can be given, by an operator or by its own agent. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

if TYPE_CHECKING:
    from agent.controlplane.records import InstanceRecord

SETTABLE: Final = ("ACTIVE", "DRAINING")


def with_status(old: InstanceRecord, status: str) -> InstanceRecord:
    """Return the instance with a status; one that was deregistered keeps its own."""
    if old.status in ("INACTIVE", status):
        return old
    return replace(old, status=status, version=old.version + 1)
