"""The range that control gave this host, kept in the agent's store."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import ConfigError, NetworkFailure
from agent.network.address_pool import parse_pool
from agent.state import Batch

if TYPE_CHECKING:
    from agent.model.fleet import FleetUpdate
    from agent.state import StateStore

KEY: Final = "fleetRange"
"""Name of the value: the range and that of the fleet, with a blank between them."""


class OwnRange(NamedTuple):
    """The addresses of tasks here, and of those on all hosts."""

    range: str = ""
    """Empty before control has given one."""
    fleet_range: str = ""


async def read(store: StateStore) -> OwnRange:
    """Return what was kept; nothing of what cannot be.

    Raises:
        StateFailure: the store cannot be read.
    """
    kept = (await store.get_meta(KEY) or "").split()
    try:
        return checked(OwnRange(*kept)) if len(kept) == 2 else OwnRange()
    except NetworkFailure:
        return OwnRange()


def checked(given: OwnRange) -> OwnRange:
    """Return a range, if tasks can have their addresses from it.

    Raises:
        NetworkFailure: they cannot.
    """
    try:
        network = parse_pool(given.range)
        fleet = IPv4Network(given.fleet_range)
    except (ValueError, ConfigError) as error:
        raise NetworkFailure(f"control gave this host no usable range: {error}") from None
    if not network.subnet_of(fleet):
        raise NetworkFailure(f"control gave this host the range {network}, not one of {fleet}")
    return given


def of(update: FleetUpdate) -> OwnRange:
    """Return the range in an update. Pure."""
    return OwnRange(update.range, update.fleet_range)


async def keep(store: StateStore, given: OwnRange) -> None:
    """Keep a range, durably.

    Raises:
        NetworkFailure: tasks cannot have their addresses from it.
        StateFailure: it cannot be written.
    """
    checked(given)
    batch = Batch()
    batch.put_meta(KEY, f"{given.range} {given.fleet_range}")
    await store.commit(batch)


async def forget(store: StateStore) -> None:
    """Forget it, durably; raises ``StateFailure``."""
    batch = Batch()
    batch.delete_meta(KEY)
    await store.commit(batch)
