"""Which host has which range, and where it is reached: in the store.

::

    /fleet-members/<instance id>    MemberRecord
    /fleet-ranges/<range>           instance id     makes a range that of one host alone
    /fleet-keys/<key in hex>        instance id     does the same for a public key of WireGuard
    /meta/fleetRangeGiven           range           the one that was given last

A host that stops taking part while it is registered keeps its range: its tasks may still have the addresses.
"""

from __future__ import annotations

import base64
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import Record
from agent.controlplane.store.contract import Delete, Put, absent, as_read
from agent.errors import AgentError
from agent.model.fleet import DRIVERS, KEY_BYTES, ROUTES, WIREGUARD, FleetHost

if TYPE_CHECKING:
    from agent.controlplane.fleet_network.ranges import Cut, RangePlan
    from agent.controlplane.store.contract import Compare, Op, Store

MEMBERS: Final = "/fleet-members/"
RANGES: Final = "/fleet-ranges/"
KEYS: Final = "/fleet-keys/"
GIVEN_KEY: Final = "/meta/fleetRangeGiven"


class MemberRecord(Record, frozen=True):
    """A host of the fleet network."""

    host: FleetHost
    """As it described itself last. Its ``range`` names its place in the plan, by IPv4 or else by IPv6; the range
    of IPv6 follows from that, and is not kept."""
    takes_part: bool = True
    """Whether it still does."""


class FleetRefused(AgentError):
    """A host cannot take part in the network between hosts; the text says why."""


class Joining(NamedTuple):
    """What the transaction that registers a host compares and does besides."""

    compares: list[Compare]
    ops: list[Op]


def member_key(instance_id: str) -> str:
    """Return the key of a host."""
    return f"{MEMBERS}{instance_id}"


def range_key(cidr: str) -> str:
    """Return the key that makes a range that of one host."""
    return f"{RANGES}{cidr.replace('/', '_')}"


def _key_row(host: FleetHost | None) -> str:
    """Return the key that makes the public key of a host its own; empty if it has none."""
    if host is None or host.driver != WIREGUARD:
        return ""
    return f"{KEYS}{base64.b64decode(host.public_key).hex()}"


class FleetMembers:
    """Gives ranges to hosts; for one event loop."""

    def __init__(self, store: Store, plan: RangePlan | None) -> None:
        """Take the store; ``plan`` is None where the operator set no network."""
        self._store = store
        self._plan = plan
        self._given = ""
        """The range that was given last by this process."""

    async def joining(self, instance_id: str, said: FleetHost | None) -> Joining:
        """Return what registers a host's part in the network, with a range if it has none that fits.

        Any number of hosts may register at once: they get different ranges.

        Raises:
            FleetRefused: there is no network, no range is free, or what the host said cannot be.
            StoreFailure: the store cannot be read.
        """
        if said is None and self._plan is None:
            return Joining([], [])
        key = member_key(instance_id)
        found = await access.find(self._store, MemberRecord, key)
        compare = as_read(key, found.kv if found else None)
        if said is None:
            if found is None or not found.record.takes_part:
                return Joining([], [])
            left = replace(found.record, takes_part=False)
            return Joining([compare], [Put(key, records.encode(left))])
        plan = self._checked(said)
        before = found.record.host if found else None
        of_key = await self._taking_key(instance_id, said, before)
        compares, ops = [compare, *of_key.compares], of_key.ops
        old = before.range if before else ""
        place = plan.index_of(old)
        new = await self._choose(plan, said) if place is None else plan.at(place)
        record = MemberRecord(host=replace(said, range=new, ipv6_range=""))
        if new == old:
            is_same = found is not None and found.record == record
            return Joining(compares, ops if is_same else [*ops, Put(key, records.encode(record))])
        return Joining(
            [*compares, absent(range_key(new))],
            [
                *ops,
                Put(key, records.encode(record)),
                Put(range_key(new), instance_id.encode()),
                Put(GIVEN_KEY, new.encode()),
                *([Delete(range_key(old))] if old else []),
            ],
        )

    def _checked(self, said: FleetHost) -> RangePlan:
        if self._plan is None:
            raise FleetRefused(
                "this control has no network for tasks between hosts: start it with --fleet-range, or "
                "remove ECS_FLEET_NETWORK from the host"
            )
        if said.ipv6_only and self._plan.ipv6 is None:
            raise FleetRefused(
                "tasks of this host have IPv6 alone (ECS_TASK_POOL_CIDR=none), and this control has no IPv6 "
                "network for them: start it with --fleet-ipv6-range"
            )
        if (self._plan.ipv4 is None or said.ipv6_only) and not said.has_ipv6:
            raise FleetRefused(
                "tasks of this host can have addresses of --fleet-ipv6-range alone, and it cannot give them any: "
                "IPv6 is off on it, it has no IPv6 address for ECS_FLEET_NETWORK=routes, or its agent is too old"
            )
        if said.driver not in DRIVERS:
            raise FleetRefused(
                f"this control does not know the fleet network {said.driver!r}, only "
                f"{', '.join(DRIVERS)}; update control first"
            )
        try:
            address = ip_address(said.address)
        except ValueError:
            raise FleetRefused(
                f"{said.address!r} is not an address under which other hosts reach this one; set "
                "ECS_HOST_ADDRESS on it"
            ) from None
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            raise FleetRefused(
                f"other hosts cannot reach this one at {address}; set ECS_HOST_ADDRESS on it"
            )
        self._refuse_own_of_tasks(self._plan, said)
        if said.driver == ROUTES and address.version != 4 and self._plan.ipv4 is not None:
            raise FleetRefused(
                f"ECS_FLEET_NETWORK=routes needs an IPv4 address of the host, not {address}; set "
                "ECS_HOST_ADDRESS on it"
            )
        if said.driver == WIREGUARD and not (said.port and _is_key(said.public_key)):
            raise FleetRefused(
                "the host sent no port or no public key for WireGuard; update its agent"
            )
        return self._plan

    def _refuse_own_of_tasks(self, plan: RangePlan, said: FleetHost) -> None:
        """Refuse a host whose own address is one of tasks, or no address at all where IPv6 needs one."""
        for text in filter(None, (said.address, said.ipv6_address)):
            try:
                address = ip_address(text)
            except ValueError:
                raise FleetRefused(f"{text!r} is not an IPv6 address of the host") from None
            for cut in plan.cuts:
                if address in cut.network:
                    raise FleetRefused(
                        f"the host's own address {address} is in {cut.network}, the network of tasks "
                        f"({_option(cut)}); choose another one for control"
                    )

    async def _taking_key(
        self, instance_id: str, said: FleetHost, before: FleetHost | None
    ) -> Joining:
        """Return what gives a host its public key, and gives back the one that it had before.

        Raises:
            FleetRefused: it is that of another host, as in a copied image: packets would go to either.
        """
        new, old = _key_row(said), _key_row(before)
        if new == old:
            return Joining([], [])
        ops: list[Op] = [Delete(old)] if old else []
        if not new:
            return Joining([], ops)
        holder = await self._store.get(new)
        if holder is not None and holder.value != instance_id.encode():
            raise FleetRefused(
                "another host has the same WireGuard key; remove the file fleet.key in the state "
                "directory of this host, and restart its agent"
            )
        return Joining([as_read(new, holder)], [*ops, Put(new, instance_id.encode())])

    async def _choose(self, plan: RangePlan, said: FleetHost) -> str:
        given = self._given
        if not given:
            kv = await self._store.get(GIVEN_KEY)
            given = kv.value.decode() if kv is not None else ""
        held = [
            record.host.range async for _, record in access.scan(self._store, MemberRecord, MEMBERS)
        ]
        # Nothing is awaited from here on: hosts that register meanwhile get the ranges behind this one.
        wished = [each for each in (said.range, said.ipv6_range) if each]
        chosen = plan.free(held, after=self._given or given, wished=wished)
        if not chosen:
            raise FleetRefused(
                f"no range is free: all {plan.size} of {plan.cuts[0].network} ({_option(plan.cuts[0])}) are "
                "those of hosts; deregister hosts that are gone, or give control a larger network"
            )
        if plan.index_of(chosen) not in map(plan.index_of, wished):
            self._given = chosen
        return chosen


def _option(cut: Cut) -> str:
    return "--fleet-range" if cut.network.version == 4 else "--fleet-ipv6-range"


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except ValueError:
        return False


async def leaving(store: Store, instance_id: str) -> list[Op]:
    """Return what gives back range and key of a host that is registered no more; nothing if it has none.

    Raises:
        StoreFailure: the store cannot be read.
    """
    found = await access.find(store, MemberRecord, member_key(instance_id))
    if found is None:
        return []
    host = found.record.host
    row = _key_row(host)
    return [Delete(found.kv.key), Delete(range_key(host.range)), *([Delete(row)] if row else [])]
