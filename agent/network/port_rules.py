"""What may come in by a task's link, and go out by it: a bridge table of nftables, and one set element per task.

Tasks share a bridge, and an ordinary container may send raw frames. So each port lets in only what
carries its task's own addresses: ARP with the own sender (answers and announcements too), IPv4 with
the own source. All else is dropped: IPv6, which tasks do not have, router and neighbour messages with
it, tagged frames, any other protocol, broadcasts and multicasts but for ARP, and the frames that a bridge
hands to the host without forwarding them. Addresses of the pool that nobody has cannot be asked for,
so that the host's table of neighbours does not grow with them, and blocked addresses not at all; nor
those of the loopback and of groups, which a raw frame could bring to services of the host's own. Nor
does a task speak as a router: it could make its neighbours' packets to each other small, or refuse them.

And a port is sent only what is for its task. A neighbour may believe for a while what it was told when
these rules were gone; what it then sends to the wrong MAC comes to nobody.

Rules do not grow with tasks: a port is known by its name, and what it may send is one look-up in a
set. Everything but the pure functions blocks, and runs in a thread lane of the caller's.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.errors import NetworkFailure
from agent.network import nft
from agent.network.addresses import link_prefixes
from agent.network.set_elements import BRIDGE_FAMILY, Change, SetElements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FAMILY: Final = "bridge"
PORTS_SET: Final = "ports"
"""Link, MAC and address of each task."""
ADDRESSES_SET: Final = "addresses"
"""Addresses of the pool that somebody has."""
NO_HOSTS: Final = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")
"""Addresses that no task sends to: this host's own loopback, groups, reserved ones and everybody."""
_ERRORS_OF_ROUTERS: Final = ["source-quench", "redirect", "time-exceeded", "parameter-problem"]
_UNREACHABLE_BY_THE_TARGET: Final = [2, 3, 9, 10, 13]
"""Codes by which a host itself refuses: protocol, port, and what its own firewall forbids."""
_GROUP_BIT: Final = "01:00:00:00:00:00"
_LINK_NAME_BYTES: Final = 16
_TRIES: Final = 3


class Port(NamedTuple):
    """The host's end of a task's link, and what may be sent into it."""

    link: str
    mac: str
    ipv4: str


class Layout(NamedTuple):
    """What the rules are made of besides ports."""

    pools: frozenset[str]
    gateways: frozenset[str]
    """Addresses of the bridge itself."""


def ruleset(
    table: str, layout: Layout, blocked: Iterable[str], ports: Iterable[Port] = ()
) -> list[dict[str, Any]]:
    """Return the commands that replace the table of ports, in the JSON schema of nftables. Pure."""
    return nft.replacement(FAMILY, table, _body(table, layout, sorted(blocked), list(ports)))


def _body(
    table: str, layout: Layout, blocked: list[str], ports: Sequence[Port]
) -> list[dict[str, Any]]:
    place = {"family": FAMILY, "table": table}
    pools = sorted(layout.pools)

    def rule(chain: str, comment: str, *expressions: dict[str, Any]) -> dict[str, Any]:
        return {"rule": {**place, "chain": chain, "comment": comment, "expr": list(expressions)}}

    def hooked(name: str, hook: str) -> dict[str, Any]:
        return {
            "chain": {
                **place, "name": name, "type": "filter", "hook": hook, "prio": -300,
                "policy": "accept",
            }
        }  # fmt: skip

    def by_link(key: str) -> list[dict[str, Any]]:
        names = [f"{prefix}*" for pool in pools for prefix in link_prefixes(pool)]
        return [nft.match(nft.meta(key), name) for name in names]

    never = [nft.prefix(cidr) for cidr in sorted({*blocked, *NO_HOSTS})]
    icmp = nft.match(nft.field("ip", "protocol"), "icmp")
    reserved = {"&": [nft.field("ether", "daddr"), "ff:ff:ff:ff:ff:f0"]}
    return [
        {"set": {**place, "name": PORTS_SET, "type": ["ifname", "ether_addr", "ipv4_addr"],
                 "elem": [{"concat": list(port)} for port in ports]}},
        {"set": {**place, "name": ADDRESSES_SET, "type": "ipv4_addr",
                 "elem": sorted({*(port.ipv4 for port in ports), *layout.gateways})}},
        {"chain": {**place, "name": "from_task"}},
        hooked("frames", "prerouting"),
        hooked("to_host", "input"),
        hooked("to_task", "postrouting"),
        rule("from_task", "blocked address", _ethertype("ip"),
             nft.match(nft.field("ip", "daddr"), {"set": never}), _counter(), {"drop": None}),
        rule("from_task", "address that nobody has", _ethertype("ip"),
             nft.match(nft.field("ip", "daddr"), {"set": [nft.prefix(pool) for pool in pools]}),
             nft.match(nft.field("ip", "daddr"), f"@{ADDRESSES_SET}", "!="),
             _counter(), {"drop": None}),
        rule("from_task", "errors of routers", _ethertype("ip"), icmp,
             nft.match(nft.field("icmp", "type"), {"set": _ERRORS_OF_ROUTERS}),
             _counter(), {"drop": None}),
        rule("from_task", "unreachable by a router", _ethertype("ip"), icmp,
             nft.match(nft.field("icmp", "type"), "destination-unreachable"),
             nft.match(nft.field("icmp", "code"), {"set": _UNREACHABLE_BY_THE_TARGET}, "!="),
             _counter(), {"drop": None}),
        rule("from_task", "own packets", _ethertype("ip"),
             nft.match(nft.meta("pkttype"), {"set": ["host", "other"]}),
             _known("iifname", nft.field("ether", "saddr"), nft.field("ip", "saddr")),
             {"accept": None}),
        rule("from_task", "own ARP", _ethertype("arp"),
             nft.match(nft.field("arp", "htype"), 1), nft.match(nft.field("arp", "ptype"), "ip"),
             nft.match(nft.field("arp", "hlen"), 6), nft.match(nft.field("arp", "plen"), 4),
             _known("iifname", nft.field("ether", "saddr"), nft.field("arp", "saddr ip")),
             _known("iifname", nft.field("arp", "saddr ether"), nft.field("arp", "saddr ip")),
             {"accept": None}),
        rule("from_task", "all else", _counter(), {"drop": None}),
        *(rule("frames", "of tasks", match, {"goto": {"target": "from_task"}}) for match in by_link("iifname")),
        *(rule("to_host", "not forwarded", match, nft.match(reserved, "01:80:c2:00:00:00"),
               {"drop": None}) for match in by_link("iifname")),
        *(rule("to_task", "for others", match, _ethertype("ip"),
               nft.match({"&": [nft.field("ether", "daddr"), _GROUP_BIT]}, "00:00:00:00:00:00"),
               _known("oifname", nft.field("ether", "daddr"), nft.field("ip", "daddr"), "!="),
               _counter(), {"drop": None}) for match in by_link("oifname")),
    ]  # fmt: skip


def _ethertype(name: str) -> dict[str, Any]:
    # The type as it is on the wire: a tagged frame has the tag's.
    return nft.match(nft.field("ether", "type"), name)


def _known(
    link: str, mac: dict[str, Any], address: dict[str, Any], operator: str = "=="
) -> dict[str, Any]:
    return nft.match({"concat": [nft.meta(link), mac, address]}, f"@{PORTS_SET}", operator)


def _counter() -> dict[str, Any]:
    return {"counter": None}


def elements_of(port: Port) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """Return the set and the key of both elements of a port. Pure."""
    mac = bytes.fromhex(port.mac.replace(":", "")) + bytes(2)
    address = socket.inet_aton(port.ipv4)
    link = port.link.encode().ljust(_LINK_NAME_BYTES, b"\0")
    return (PORTS_SET, link + mac + address), (ADDRESSES_SET, address)


class PortRules:
    """Rules for what comes in from tasks. The state that is wanted is kept here, and restored whole.

    ``ensure`` and ``differences`` are for one caller at a time; ``admit`` and ``dismiss`` for any number
    of threads, at any time.
    """

    def __init__(self, table: str, blocked: Iterable[str]) -> None:
        """Nothing is touched before ``ensure``.

        Args:
            table: name of the table, in the bridge family.
            blocked: prefixes that tasks cannot send to.
        """
        self.problem = ""
        """Why this host cannot have such rules; empty if it can."""
        self._table = table
        self._blocked = tuple(blocked)
        self._layout: Layout | None = None
        self._ports: dict[str, Port] = {}
        self._lock = threading.Lock()
        self._sets = SetElements(BRIDGE_FAMILY, table)

    @property
    def port_id(self) -> int:
        """Marks the kernel's news of changes that ``admit`` and ``dismiss`` made; 0 if there are none."""
        return self._sets.port_id

    def ensure(self, layout: Layout, ports: Iterable[Port] | None = None) -> None:
        """Bring the table into shape; repeatable. A host without the bridge family keeps ``problem``.

        Args:
            layout: what the rules are made of.
            ports: all that are to be let in; None for those that are admitted already.

        Raises:
            NetworkFailure: ``nft`` is missing or refused, though the host has the family.
        """
        with self._lock:
            if ports is not None:
                self._ports = {port.link: port for port in ports}
            wanted = list(self._ports.values())
            self._layout = layout
        commands = ruleset(self._table, layout, self._blocked, wanted)
        listed = nft.listed(FAMILY, self._table)
        if listed is None or not nft.has_rules_of(commands, listed):
            try:
                nft.apply(commands)
            except NetworkFailure:
                self.problem = self._why_not()
                if not self.problem:
                    raise
                return
        self.problem = ""
        # Whoever was admitted meanwhile went into the table before, or is in this one.
        for _ in range(_TRIES):
            missing, excess = self._off(layout)
            if not missing and not excess:
                return
            self._sets.commit([*missing, *excess])

    def differences(self, layout: Layout) -> list[str]:
        """Return what is not as ``ensure`` leaves it, a few words each; empty when all is.

        Raises:
            NetworkFailure: ``nft`` is missing or does not answer.
        """
        if self.problem:
            return []
        listed = nft.listed(FAMILY, self._table)
        if listed is None:
            return [f"the bridge table {self._table} was gone"]
        if not nft.has_rules_of(ruleset(self._table, layout, self._blocked), listed):
            return [f"the bridge table {self._table} was changed"]
        missing, excess = self._compare(layout, listed)
        if not missing and not excess:
            return []
        counts = f"{len(missing)} gone, {len(excess)} foreign"
        return [f"addresses of tasks in the bridge table {self._table} were changed ({counts})"]

    def admit(self, port: Port) -> int:
        """Let in what a task sends under its own addresses; repeatable.

        Returns:
            How many transactions it took, 0 if that is not known.

        Raises:
            NetworkFailure: the kernel refused.
        """
        with self._lock:
            self._ports[port.link] = port
            layout = self._layout
        if self.problem:
            return 0
        try:
            self._sets.commit([Change(name, key) for name, key in elements_of(port)])
        except FileNotFoundError:
            # Somebody flushed the table just now; without it the port would be open.
            if layout is not None:
                self.ensure(layout)
            return 0
        return 1

    def dismiss(self, link: str) -> int:
        """Let nothing in from a link any more; an unknown one is success.

        Returns:
            How many transactions it took.

        Raises:
            NetworkFailure: the kernel refused.
        """
        with self._lock:
            port = self._ports.pop(link, None)
        if port is None or self.problem:
            return 0
        made = 0
        gone = [Change(name, key, removed=True) for name, key in elements_of(port)]
        # One that somebody has removed already fails the transaction; the others still have to go.
        for changes in (gone, *([change] for change in gone)):
            try:
                self._sets.commit(changes)
            except FileNotFoundError:
                continue
            made += 1
            if changes is gone:
                break
        return made

    def remove(self) -> None:
        """Remove the table; an absent one is success.

        Raises:
            NetworkFailure: ``nft`` is missing or refused.
        """
        if not self.problem:
            nft.remove(FAMILY, self._table)
        self.close()

    def close(self) -> None:
        """Close what is open; rules stay, and a later change opens it again."""
        self._sets.close()

    def _why_not(self) -> str:
        """Return why the host cannot have a table of this family, or nothing if it can."""
        answer = nft.run("nft", "add", "table", FAMILY, self._table)
        if answer.returncode == 0:
            return ""
        said = next(iter(answer.stderr.strip().splitlines()), f"exit code {answer.returncode}")
        return (
            f"nftables cannot filter frames on bridges ({said.removeprefix('Error: ')}), so that a task "
            "can send under its neighbour's address; load the module nf_tables_bridge, or install the "
            "kernel's extra modules, and restart the agent"
        )

    def _off(self, layout: Layout) -> tuple[list[Change], list[Change]]:
        listed = nft.listed(FAMILY, self._table)
        if listed is None:
            raise NetworkFailure(f"the bridge table {self._table} was removed while it was made")
        return self._compare(layout, listed)

    def _compare(
        self, layout: Layout, listed: Sequence[dict[str, Any]]
    ) -> tuple[list[Change], list[Change]]:
        """Return what is missing in the sets, and what is too much."""
        with self._lock:
            ports = set(self._ports.values())
        wanted = {element for port in ports for element in elements_of(port)}
        wanted |= {(ADDRESSES_SET, socket.inet_aton(gateway)) for gateway in layout.gateways}
        present = {
            elements_of(Port(*element["concat"]))[0] for element in nft.elements(listed, PORTS_SET)
        }
        present |= {
            (ADDRESSES_SET, socket.inet_aton(ipv4)) for ipv4 in nft.elements(listed, ADDRESSES_SET)
        }
        missing = [Change(*element) for element in wanted - present]
        return missing, [Change(*element, removed=True) for element in present - wanted]
