"""From one table of groups to the next: the commands of one transaction. Pure.

Chains that stay the same are left alone, so their position, the counters and the tracked connections do,
too. If only elements differ, they can go to the kernel by netlink, without ``nft``.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from agent.network.groups.compiled import (
    FAMILY,
    HOOKS,
    INGRESS4,
    INGRESS6,
    PRIORITY,
    Table,
    chain_of,
    comments,
    group_of,
    hooked,
    set_of,
    version_of,
)
from agent.network.kernel.set_elements import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.model.security_groups import SecurityGroup

Commands = list[dict[str, Any]]
_TYPES: Final = {"4": "ipv4_addr", "6": "ipv6_addr"}


def whole(name: str, table: Table) -> Commands:
    """Return the commands that replace the table, whatever is there."""
    place = {"family": FAMILY, "name": name}
    commands: Commands = [
        {"add": {"table": place}},
        {"delete": {"table": place}},
        {"add": {"table": place}},
        *_declared(name, Table(), table),
    ]
    where = {"family": FAMILY, "table": name}
    for hook in HOOKS:
        chain: dict[str, Any] = {
            **where,
            "name": hook,
            "type": "filter",
            "hook": hook,
            "prio": PRIORITY,
        }
        commands.append({"add": {"chain": {**chain, "policy": "accept"}}})
    for name_of_chain, rules in hooked().items():
        commands += [{"add": {"rule": {**where, "chain": name_of_chain, **rule}}} for rule in rules]
    return commands


def between(name: str, old: Table, new: Table) -> Commands:
    """Return the commands from a table to another; both exist. Empty if they are the same."""
    where = {"family": FAMILY, "table": name}
    commands = _declared(name, old, new)
    # Last, when nothing leads there any more: elements and rules first, then what they named.
    for map_name, elements in old.maps.items():
        wanted = new.maps.get(map_name, {})
        gone = sorted(key for key, chain in elements.items() if wanted.get(key) != chain)
        # An element whose chain changes was deleted before it was added.
        left = [key for key in gone if key not in wanted]
        commands += _elements("delete", where, map_name, left)
    for set_name, members in old.sets.items():
        if set_name in new.sets:
            gone = sorted(members - new.sets[set_name])
            commands += _elements("delete", where, set_name, gone)
    dropped = [chain for chain in old.chains if chain not in new.chains]
    commands += [{"flush": {"chain": {**where, "name": chain}}} for chain in dropped]
    commands += [{"delete": {"chain": {**where, "name": chain}}} for chain in dropped]
    commands += [
        {"delete": {"set": {**where, "name": each}}} for each in old.sets if each not in new.sets
    ]
    commands += [
        {"delete": {"counter": {**where, "name": each}}}
        for each in sorted(old.counters - new.counters)
    ]
    return commands


def only_elements(old: Table, new: Table) -> list[Change] | None:
    """Return the changes of elements that lead from a table to another; None if more is needed."""
    if (old.counters, old.chains) != (
        new.counters,
        new.chains,
    ) or old.sets.keys() != new.sets.keys():
        return None
    changes = []
    for name, members in new.sets.items():
        changes += [Change(name, _key(a), removed=True) for a in sorted(old.sets[name] - members)]
        changes += [Change(name, _key(a)) for a in sorted(members - old.sets[name])]
    for name, elements in new.maps.items():
        before = old.maps.get(name, {})
        for address in sorted(before.keys() - elements.keys()):
            changes.append(Change(name, _key(address), removed=True))
        for address, chain in sorted(elements.items()):
            if before.get(address) != chain:
                if address in before:
                    changes.append(Change(name, _key(address), removed=True))
                changes.append(Change(name, _key(address), chain=chain))
    return changes


def of_one_task(
    table: Table,
    groups: Mapping[str, SecurityGroup],
    address: str,
    ids: tuple[str, ...],
    *,
    comes: bool,
) -> list[Change] | None:
    """Return the changes for a task that comes or goes; None if more than elements must change.

    The same as ``only_elements`` of the tables before and after, at a cost that does not depend on how many
    tasks and members there are.

    Args:
        table: the table before.
        groups: what is known of groups.
        address: of the task; one that comes has no groups yet.
        ids: its groups. Others of the host must be in exactly these, too.
        comes: whether it comes.
    """
    version = version_of(address)
    chains = {
        f"egress{version}": chain_of(ids, is_egress=True),
        f"ingress{version}": chain_of(ids, is_egress=False),
    }
    if not all(chain in table.chains for chain in chains.values()):
        return None
    changes = []
    for name, members in table.sets.items():
        group_id = group_of(name)
        if name != set_of(group_id, version):
            continue
        told = group_id in groups and address in groups[group_id].members
        wanted = group_id in ids if comes else told
        if wanted != (address in members):
            changes.append(Change(name, _key(address), removed=not wanted))
    for name, chain in chains.items():
        if comes is (address in table.maps[name]):
            return None
        changes.append(Change(name, _key(address), not comes, chain if comes else ""))
    return changes


def after(table: Table, address: str, changes: Iterable[Change]) -> Table:
    """Return the table after such changes, which are all of one address."""
    sets, maps = dict(table.sets), dict(table.maps)
    for change in changes:
        name = change.set_name
        if name in sets:
            sets[name] = sets[name] - {address} if change.removed else sets[name] | {address}
        elif change.removed:
            maps[name] = {key: chain for key, chain in maps[name].items() if key != address}
        else:
            maps[name] = {**maps[name], address: change.chain}
    return Table(counters=table.counters, sets=sets, maps=maps, chains=table.chains)


def is_in(table: Table, listed: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a listed table is exactly this one."""
    rules = [(o["rule"]["chain"], o["rule"].get("comment")) for o in listed if "rule" in o]
    if sorted(map(str, rules)) != sorted(map(str, comments(table))):
        return False
    for hook in HOOKS:
        if not any(o.get("chain", {}).get("name") == hook and "hook" in o["chain"] for o in listed):
            return False
    sets = {o["set"]["name"]: o["set"] for o in listed if "set" in o}
    maps = {o["map"]["name"]: o["map"] for o in listed if "map" in o}
    if sets.keys() != table.sets.keys() or maps.keys() != table.maps.keys():
        return False
    return all(
        frozenset(sets[name].get("elem", ())) == members for name, members in table.sets.items()
    ) and all(
        {key: verdict["goto"]["target"] for key, verdict in maps[name].get("elem", ())} == elements
        for name, elements in table.maps.items()
    )


def groups_in(listed: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the group ids of each address in a listed table of ours."""
    ids: dict[str, list[str]] = {}
    for rule in (o["rule"] for o in listed if "rule" in o):
        for target in (e["jump"]["target"] for e in rule.get("expr", ()) if "jump" in e):
            ids.setdefault(rule["chain"], []).append(target.removeprefix("in_"))
    return {
        address: tuple(sorted(ids.get(verdict["goto"]["target"], ())))
        for each in (o["map"] for o in listed if "map" in o)
        if each["name"] in (INGRESS4, INGRESS6)
        for address, verdict in each.get("elem", ())
    }


def counts(listed: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return packets and bytes of each counter of a listed table."""
    found = [o["counter"] for o in listed if "counter" in o]
    return {each["name"]: (each["packets"], each["bytes"]) for each in found}


def _declared(name: str, old: Table, new: Table) -> Commands:
    """Return the commands that add and change what the new table has."""
    where = {"family": FAMILY, "table": name}
    commands: Commands = [
        {"add": {"counter": {**where, "name": each}}}
        for each in sorted(new.counters - old.counters)
    ]
    for set_name, members in new.sets.items():
        if set_name not in old.sets:
            kind = _TYPES[set_name[-1]]
            commands.append({"add": {"set": {**where, "name": set_name, "type": kind}}})
        added = sorted(members - old.sets.get(set_name, frozenset()))
        commands += _elements("add", where, set_name, added)
    for map_name in new.maps:
        if map_name not in old.maps:
            kind = _TYPES[map_name[-1]]
            declared = {**where, "name": map_name, "type": kind, "map": "verdict"}
            commands.append({"add": {"map": declared}})
    fresh = [chain for chain in new.chains if chain not in old.chains]
    commands += [{"add": {"chain": {**where, "name": chain}}} for chain in fresh]
    for chain, rules in new.chains.items():
        if old.chains.get(chain) == rules:
            continue
        if chain in old.chains:
            commands.append({"flush": {"chain": {**where, "name": chain}}})
        commands += [{"add": {"rule": {**where, "chain": chain, **rule}}} for rule in rules]
    for map_name, elements in new.maps.items():
        before = old.maps.get(map_name, {})
        changed = {key: chain for key, chain in elements.items() if before.get(key) != chain}
        commands += _elements("delete", where, map_name, sorted(changed.keys() & before.keys()))
        pairs = [[key, {"goto": {"target": chain}}] for key, chain in sorted(changed.items())]
        commands += _elements("add", where, map_name, pairs)
    return commands


def _elements(verb: str, where: dict[str, Any], name: str, elements: list[Any]) -> Commands:
    if not elements:
        return []
    return [{verb: {"element": {**where, "name": name, "elem": elements}}}]


def _key(address: str) -> bytes:
    return ip_address(address).packed
