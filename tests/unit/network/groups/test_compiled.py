"""What the compiled table does with packets, compared with what the groups say."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.security_groups import GroupRule, SecurityGroup
from agent.network.groups import transition
from agent.network.groups.compiled import Place, Table, chain_of, compiled

HOST = "10.9.0.1"
RESOLVER = "10.9.0.53"
IDS = ("sg-0", "sg-1", "sg-2")
ADDRESSES = ("10.9.0.2", "10.9.0.3", "10.9.7.7", "192.0.2.1", HOST, RESOLVER, "fd00::2", "fd00::9")
CIDRS4 = ("0.0.0.0/0", "10.9.0.0/24", "10.9.0.2/32", "192.0.2.0/24")
CIDRS6 = ("::/0", "fd00::/64", "fd00::9/128")
PLACE = Place(frozenset({HOST}), frozenset({RESOLVER}))
NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}


class Packet(NamedTuple):
    """The first packet of a connection."""

    source: str
    target: str
    protocol: int
    first: int = 0
    """Destination port, or ICMP type."""
    second: int = 0
    """ICMP code."""


@st.composite
def rules(draw: st.DrawFn, number: int) -> GroupRule:
    peer = draw(st.sampled_from(["cidr_ipv4", "cidr_ipv6", "group"]))
    values = {"cidr_ipv4": CIDRS4, "cidr_ipv6": CIDRS6, "group": (*IDS, "sg-unknown")}[peer]
    protocol = draw(st.sampled_from(["-1", "tcp", "udp", "icmp", "icmpv6", "47"]))
    first, last = -1, -1
    if protocol in ("tcp", "udp"):
        first, last = draw(st.sampled_from([(0, 65535), (80, 80), (80, 90), (0, 0), (53, 53)]))
    elif protocol.startswith("icmp"):
        first, last = draw(st.sampled_from([(-1, -1), (8, -1), (3, 1), (128, -1)]))
    return GroupRule(
        id=f"sgr-{number}",
        protocol=protocol,
        is_egress=draw(st.booleans()),
        from_port=first,
        to_port=last,
        **{peer: draw(st.sampled_from(values))},
    )


@st.composite
def group_sets(draw: st.DrawFn) -> dict[str, SecurityGroup]:
    made, number = {}, 0
    for group in draw(st.sets(st.sampled_from(IDS))):
        own = []
        for _ in range(draw(st.integers(0, 3))):
            own.append(draw(rules(number)))
            number += 1
        made[group] = SecurityGroup(
            id=group,
            rules=tuple(own),
            members=frozenset(draw(st.sets(st.sampled_from(ADDRESSES)))),
            is_default=group == "sg-0",
        )
    return made


tasks = st.dictionaries(
    st.sampled_from(("10.9.0.2", "10.9.0.3", "fd00::2")),
    st.sets(st.sampled_from(IDS), min_size=1).map(lambda ids: tuple(sorted(ids))),
)
packets = st.builds(
    Packet,
    st.sampled_from(ADDRESSES),
    st.sampled_from(ADDRESSES),
    st.sampled_from([1, 6, 17, 58, 47]),
    st.sampled_from([0, 3, 8, 53, 80, 85, 91, 128, 135]),
    st.sampled_from([0, 1]),
).filter(lambda packet: ip_address(packet.source).version == ip_address(packet.target).version)


def allows(
    groups: dict[str, SecurityGroup], held: dict[str, tuple[str, ...]], packet: Packet
) -> bool:
    """Say what the groups of both ends make of a packet, straight from what they mean."""
    if packet.protocol == 58 and 133 <= packet.first <= 137 and ":" in packet.source:
        return True
    name_query = packet.target == RESOLVER and packet.protocol in (6, 17) and packet.first == 53
    out = packet.source not in held or name_query
    out = out or one_of(groups, held, held.get(packet.source, ()), packet, is_egress=True)
    into = packet.target not in held
    return out and (
        into or one_of(groups, held, held.get(packet.target, ()), packet, is_egress=False)
    )


def one_of(
    groups: dict[str, SecurityGroup],
    held: dict[str, tuple[str, ...]],
    ids: tuple[str, ...],
    packet: Packet,
    *,
    is_egress: bool,
) -> bool:
    peer = packet.target if is_egress else packet.source
    own = [rule for group in ids if group in groups for rule in groups[group].rules]
    return any(
        rule.is_egress is is_egress and is_peer(groups, held, rule, peer) and is_kind(rule, packet)
        for rule in own
    )


def is_peer(
    groups: dict[str, SecurityGroup], held: dict[str, tuple[str, ...]], rule: GroupRule, peer: str
) -> bool:
    if not rule.group:
        cidr = ip_network(rule.cidr_ipv4 or rule.cidr_ipv6)
        return cidr.version == ip_address(peer).version and ip_address(peer) in cidr
    if peer in held:
        return rule.group in held[peer]
    group = groups.get(rule.group)
    return group is not None and (peer in group.members or (group.is_default and peer == HOST))


def is_kind(rule: GroupRule, packet: Packet) -> bool:
    if rule.protocol == "-1":
        return True
    if (
        packet.protocol != NUMBERS.get(rule.protocol, rule.protocol)
        and str(packet.protocol) != rule.protocol
    ):
        return False
    if packet.protocol in (1, 58) and (packet.protocol == 58) is not (":" in packet.source):
        return False  # the ICMP of the other IP version
    if packet.protocol in (6, 17):
        return rule.from_port <= packet.first <= rule.to_port
    if packet.protocol in (1, 58):
        return rule.from_port in (-1, packet.first) and rule.to_port in (-1, packet.second)
    return True


def passes(table: Table, packet: Packet) -> bool:
    """Carry out the compiled rules for a packet, as nftables does."""
    verdict = walk(table, "packets", packet)
    return verdict != "drop"


def walk(table: Table, chain: str, packet: Packet) -> str:
    for rule in table.chains[chain]:
        for expression in rule["expr"]:
            verdict = step(table, expression, packet)
            if verdict is None:
                break
            if verdict:
                return verdict
    return ""


def step(table: Table, expression: dict[str, Any], packet: Packet) -> str | None:
    """Return a verdict, an empty text to go on, or None for the next rule."""
    ((kind, what),) = expression.items()
    match kind:
        case "match":
            return "" if matches(table, what, packet) else None
        case "counter":
            assert what in table.counters
            return ""
        case "accept" | "drop":
            return str(kind)
        case "jump":
            return walk(table, what["target"], packet)
        case "goto":
            return walk(table, what["target"], packet) or "accept"
        case "vmap":
            value = field(what["key"], packet)
            target = table.maps[what["data"][1:]].get(str(value))
            return "" if target is None else walk(table, target, packet) or "accept"
    raise AssertionError(kind)


def matches(table: Table, match: dict[str, Any], packet: Packet) -> bool:
    left, right = match["left"], match["right"]
    if "ct" in left:
        return False  # it is the first packet
    value = field(left, packet)
    if value is None:
        return False
    match right:
        case {"set": list(members)}:
            return value in members
        case {"range": [first, last]}:
            return bool(first <= value <= last)
        case {"prefix": {"addr": address, "len": length}}:
            return ip_address(value) in ip_network(f"{address}/{length}")
        case str() if right.startswith("@"):
            return value in table.sets[right[1:]]
    return bool(value == right or NUMBERS.get(right, right) == value)


def field(left: dict[str, Any], packet: Packet) -> Any:
    """Return the value of a field; None if the packet has none, so that nothing matches."""
    version = ip_address(packet.source).version
    if "meta" in left:
        return {"l4proto": packet.protocol, "nfproto": f"ipv{version}"}[left["meta"]["key"]]
    protocol, name = left["payload"]["protocol"], left["payload"]["field"]
    if protocol in ("ip", "ip6"):
        is_own = version == (4 if protocol == "ip" else 6)
        return {"saddr": packet.source, "daddr": packet.target}[name] if is_own else None
    if NUMBERS[protocol] != packet.protocol:
        return None
    if protocol == "icmpv6" and version == 4:
        return None
    return {"dport": packet.first, "type": packet.first, "code": packet.second}[name]


@given(group_sets(), tasks, packets)
def test_a_packet_passes_if_the_groups_of_both_ends_allow_it(
    groups: dict[str, SecurityGroup], held: dict[str, tuple[str, ...]], packet: Packet
) -> None:
    table = compiled(groups, held, PLACE)
    if not table:
        assert not held
        return
    assert passes(table, packet) is allows(groups, held, packet)


class Kernel:
    """Carries out commands on a table, and refuses what nftables would."""

    def __init__(self, table: Table) -> None:
        self.counters = set(table.counters)
        self.sets = {name: set(members) for name, members in table.sets.items()}
        self.maps = {name: dict(elements) for name, elements in table.maps.items()}
        self.chains = {name: list(rules) for name, rules in table.chains.items()}

    def run(self, commands: list[dict[str, Any]]) -> None:
        for command in commands:
            ((verb, ((kind, what),)),) = [(v, tuple(c.items())) for v, c in command.items()]
            getattr(self, f"{verb}_{kind}")(what)
        used = [e for rules in self.chains.values() for rule in rules for e in rule["expr"]]
        targets = {e[k]["target"] for e in used for k in ("goto", "jump") if k in e}
        targets |= {chain for elements in self.maps.values() for chain in elements.values()}
        assert targets <= self.chains.keys()
        assert {e["counter"] for e in used if "counter" in e} <= self.counters

    def add_counter(self, what: dict[str, Any]) -> None:
        self.counters.add(what["name"])

    def add_set(self, what: dict[str, Any]) -> None:
        self.sets[what["name"]] = set()

    def add_map(self, what: dict[str, Any]) -> None:
        self.maps[what["name"]] = {}

    def add_chain(self, what: dict[str, Any]) -> None:
        self.chains[what["name"]] = []

    def add_rule(self, what: dict[str, Any]) -> None:
        kept = {key: what[key] for key in ("comment", "expr")}
        self.chains[what["chain"]].append(kept)

    def add_element(self, what: dict[str, Any]) -> None:
        for each in what["elem"]:
            if what["name"] in self.sets:
                self.sets[what["name"]].add(each)
            else:
                assert each[0] not in self.maps[what["name"]], "an element with another verdict"
                self.maps[what["name"]][each[0]] = each[1]["goto"]["target"]

    def delete_element(self, what: dict[str, Any]) -> None:
        for each in what["elem"]:
            if what["name"] in self.sets:
                self.sets[what["name"]].remove(each)
            else:
                del self.maps[what["name"]][each]

    def flush_chain(self, what: dict[str, Any]) -> None:
        self.chains[what["name"]] = []

    def delete_chain(self, what: dict[str, Any]) -> None:
        assert not self.chains.pop(what["name"])

    def delete_set(self, what: dict[str, Any]) -> None:
        del self.sets[what["name"]]

    def delete_counter(self, what: dict[str, Any]) -> None:
        self.counters.remove(what["name"])

    @property
    def table(self) -> Table:
        return Table(
            counters=frozenset(self.counters),
            sets={name: frozenset(members) for name, members in self.sets.items()},
            maps=self.maps,
            chains={name: tuple(rules) for name, rules in self.chains.items()},
        )


@given(group_sets(), tasks, group_sets(), tasks)
def test_one_transaction_leads_from_a_table_to_the_next(
    groups: dict[str, SecurityGroup],
    held: dict[str, tuple[str, ...]],
    groups_later: dict[str, SecurityGroup],
    held_later: dict[str, tuple[str, ...]],
) -> None:
    old, new = compiled(groups, held, PLACE), compiled(groups_later, held_later, PLACE)
    if not (old and new):
        return
    kernel = Kernel(old)
    kernel.run(transition.between("t", old, new))
    assert kernel.table == new
    assert transition.between("t", new, new) == []


@given(group_sets(), tasks, tasks)
def test_tasks_that_come_and_go_change_elements_alone(
    groups: dict[str, SecurityGroup],
    held: dict[str, tuple[str, ...]],
    later: dict[str, tuple[str, ...]],
) -> None:
    old, new = compiled(groups, held, PLACE), compiled(groups, later, PLACE)
    changes = transition.only_elements(old, new)
    same_chains = old.chains == new.chains and old.sets.keys() == new.sets.keys()
    assert (changes is not None) is (same_chains and old.counters == new.counters)
    if changes is None:
        return
    names = {ip_address(address).packed: address for address in (*ADDRESSES, *held, *later)}
    sets = {name: set(members) for name, members in old.sets.items()}
    maps = {name: dict(elements) for name, elements in old.maps.items()}
    for change in changes:
        address = names[change.key]
        if change.set_name in sets:
            (sets[change.set_name].remove if change.removed else sets[change.set_name].add)(address)
        elif change.removed:
            del maps[change.set_name][address]
        else:
            assert address not in maps[change.set_name]
            maps[change.set_name][address] = change.chain
    assert sets == {name: set(members) for name, members in new.sets.items()}
    assert maps == new.maps


def test_tasks_of_the_same_groups_share_their_chains() -> None:
    groups = {"sg-0": SecurityGroup(id="sg-0"), "sg-1": SecurityGroup(id="sg-1")}
    few = compiled(groups, {"10.9.0.2": ("sg-0", "sg-1")}, PLACE)
    many = compiled(groups, {f"10.9.1.{n}": ("sg-1", "sg-0") for n in range(100)}, PLACE)
    assert len(many.chains) == len(few.chains)
    assert chain_of(("sg-0", "sg-1"), is_egress=True) == chain_of(("sg-1", "sg-0"), is_egress=True)


def test_without_tasks_there_is_no_table() -> None:
    assert not compiled({"sg-0": SecurityGroup(id="sg-0")}, {}, PLACE)


@pytest.mark.parametrize("address", ["10.9.0.2", "fd00::2"])
def test_a_group_that_is_not_known_yet_allows_nothing(address: str) -> None:
    table = compiled({}, {address: ("sg-0",)}, PLACE)
    peer = "192.0.2.1" if "." in address else "fd00::9"
    assert not passes(table, Packet(address, peer, 6, 80))
    assert not passes(table, Packet(peer, address, 6, 80))


@given(group_sets(), tasks, st.sampled_from(("10.9.0.2", "10.9.0.3", "fd00::2")))
def test_a_task_that_comes_or_goes_is_the_same_as_a_new_table(
    groups: dict[str, SecurityGroup], held: dict[str, tuple[str, ...]], address: str
) -> None:
    for ids in {*held.values(), ("sg-0",)}:
        without = {other: own for other, own in held.items() if other != address}
        small = compiled(groups, without, PLACE)
        large = compiled(groups, {**without, address: ids}, PLACE)
        shared = ids in without.values()
        for old, new, comes in ((small, large, True), (large, small, False)):
            if not old or not new:
                continue
            changes = transition.of_one_task(old, groups, address, ids, comes=comes)
            if not shared:
                assert changes is None or not comes  # the caller knows whether others are in them
                continue
            assert changes is not None
            assert transition.after(old, address, changes) == new
            assert set(changes) == set(transition.only_elements(old, new) or ())
