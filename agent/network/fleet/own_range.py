"""The ranges that control gave this host, kept in the agent's store."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import ConfigError, NetworkFailure
from agent.network.address_pool import parse_pools
from agent.state import Batch

if TYPE_CHECKING:
    from agent.model.fleet import FleetUpdate
    from agent.state import StateStore

KEY: Final = "fleetRange"
"""Name of the value: the fields of ``OwnRange`` with blanks between them; the last two only with IPv6."""
_NONE: Final = "-"
"""In the place of an empty field."""


class OwnRange(NamedTuple):
    """The addresses of tasks here, and of those on all hosts; IPv4 or IPv6 may be missing."""

    range: str = ""
    """Empty before control has given one."""
    fleet_range: str = ""
    ipv6_range: str = ""
    ipv6_fleet_range: str = ""


async def read(store: StateStore) -> OwnRange:
    """Return what was kept; nothing of what cannot be.

    Raises:
        StateFailure: the store cannot be read.
    """
    kept = ["" if field == _NONE else field for field in (await store.get_meta(KEY) or "").split()]
    try:
        return checked(OwnRange(*kept)) if len(kept) in (2, 4) else OwnRange()
    except NetworkFailure:
        return OwnRange()


def checked(given: OwnRange) -> OwnRange:
    """Return ranges, if tasks can have their addresses from them.

    Raises:
        NetworkFailure: they cannot.
    """
    try:
        ipv4, ipv6 = parse_pools(given.range, given.ipv6_range)
        if given.range and not ipv4.subnet_of(IPv4Network(given.fleet_range)):
            raise NetworkFailure(
                f"control gave this host the range {ipv4}, not one of {given.fleet_range}"
            )
        if ipv6 is not None and not ipv6.subnet_of(IPv6Network(given.ipv6_fleet_range)):
            raise NetworkFailure(
                f"control gave this host the range {ipv6}, not one of {given.ipv6_fleet_range}"
            )
    except (ValueError, ConfigError) as error:
        raise NetworkFailure(f"control gave this host no usable range: {error}") from None
    return given


def of(update: FleetUpdate, *, ipv6_only: bool = False) -> OwnRange:
    """Return the ranges in an update; that of IPv4 not for a host whose tasks have IPv6 alone. Pure."""
    by_ipv6 = (update.ipv6_range, update.ipv6_fleet_range) if update.ipv6_range else ("", "")
    if ipv6_only or not update.range:
        return OwnRange("", "", *by_ipv6)
    return OwnRange(update.range, update.fleet_range, *by_ipv6)


async def keep(store: StateStore, given: OwnRange) -> None:
    """Keep ranges, durably.

    Raises:
        NetworkFailure: tasks cannot have their addresses from them.
        StateFailure: they cannot be written.
    """
    checked(given)
    fields = given if given.ipv6_range else given[:2]
    batch = Batch()
    batch.put_meta(KEY, " ".join(field or _NONE for field in fields))
    await store.commit(batch)


async def forget(store: StateStore) -> None:
    """Forget them, durably; raises ``StateFailure``."""
    batch = Batch()
    batch.delete_meta(KEY)
    await store.commit(batch)
