"""Filters frames on task links: a bridge table of nftables, with one set element per task.

Tasks share a bridge, and an ordinary container may send raw frames. So each port accepts only
frames with its task's own addresses: ARP with its own sender (including replies and announcements),
IPv4 with its own source, and IPv6 if tasks have it (``ipv6_port_rules``). Everything else is
dropped: tagged frames; other protocols; broadcasts and multicasts except ARP; and the frames that a
bridge passes to the host without forwarding them. Unused addresses of the pool cannot be resolved,
so that the host's neighbour table does not grow with them. Blocked addresses cannot be reached, nor
can loopback and multicast addresses, which a raw frame could otherwise bring to services of the
host. Nor can a task send ICMP as a router: it could lower the MTU between its neighbours, or make
them unreachable to each other.

And a port receives only what is for its task. A neighbour may for a while use a wrong MAC that it
learned while these rules were missing; what it sends there reaches nobody.

The number of rules does not depend on the number of tasks: a port is identified by its name, and a
lookup in a set decides what it may send. Everything except the pure functions blocks, and runs in a
thread lane of the caller.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.errors import NetworkFailure
from agent.network.addresses import link_prefixes
from agent.network.bridge import ipv6_port_rules
from agent.network.kernel import nft
from agent.network.kernel.set_elements import BRIDGE_FAMILY, Change, SetElements, link_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FAMILY: Final = "bridge"
PORTS_SET: Final = "ports"
"""Link, MAC and address of each task."""
ADDRESSES_SET: Final = "addresses"
"""Addresses of the pool that are in use."""
NO_HOSTS: Final = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")
"""Destinations that no task may use: the host's loopback, multicast, reserved and broadcast
addresses."""
ERRORS_OF_ROUTERS: Final = ["source-quench", "redirect", "time-exceeded", "parameter-problem"]
UNREACHABLE_BY_THE_TARGET: Final = [2, 3, 9, 10, 13]
"""Codes that a destination host itself sends: protocol, port, and what its own firewall forbids."""
_GROUP_BIT: Final = "01:00:00:00:00:00"
_TRIES: Final = 3

Element = tuple[str, bytes]
"""Name of a set, and the key of one of its elements."""


class BridgePort(NamedTuple):
    """The host end of a task's link, and what may be sent into it."""

    link: str
    mac: str
    ipv4: str
    ipv6: str = ""
    """Empty if the task has none."""


class Layout(NamedTuple):
    """The input for the rules, besides the ports."""

    pools: frozenset[str]
    gateways: frozenset[str]
    """Addresses of the host itself in the pools."""
    task_links: tuple[str, ...] = ()
    """Links of the host from which packets of tasks come, in the view of the firewall: the bridge, or
    patterns for the links of single tasks that end in ``*``. A rule names one of them."""
    is_routed: bool = True
    """Whether the host forwards what tasks send; else their links lead to this host only."""
    ipv6_pools: frozenset[str] = frozenset()
    """Empty if tasks have no IPv6."""
    ipv6_gateways: frozenset[str] = frozenset()
    ipv6_masquerade: bool = False
    """Whether what tasks send out by IPv6 leaves with the host's address."""
    agent_side_pool: str = ""
    """IPv4 addresses of tasks that have IPv6 alone: from them, only the agent's address is reached."""


def ruleset(
    table: str, layout: Layout, blocked: Iterable[str], ports: Iterable[BridgePort] = ()
) -> list[dict[str, Any]]:
    """Return the commands that replace the table of ports, in the JSON schema of nftables. Pure."""
    return nft.replacement(FAMILY, table, _body(table, layout, sorted(blocked), list(ports)))


def _body(
    table: str, layout: Layout, blocked: list[str], ports: Sequence[BridgePort]
) -> list[dict[str, Any]]:
    place = {"family": FAMILY, "table": table}
    pools = sorted(layout.pools)

    rule, rules = partial(nft.rule, place), partial(nft.rules, place)

    def hooked(name: str, hook: str) -> dict[str, Any]:
        return nft.hooked(place, name, "filter", hook, -300)

    def by_link(key: str) -> list[dict[str, Any]]:
        names = [f"{prefix}*" for pool in pools for prefix in link_prefixes(pool)]
        return [nft.match(nft.meta(key), name) for name in names]

    never = nft.prefixes({*blocked, *NO_HOSTS})
    by_ipv6 = ipv6_port_rules.from_task(layout, blocked) if layout.ipv6_pools else []
    icmp = nft.match(nft.field("ip", "protocol"), "icmp")
    reserved = {"&": [nft.field("ether", "daddr"), "ff:ff:ff:ff:ff:f0"]}
    return [
        {"set": {**place, "name": PORTS_SET, "type": ["ifname", "ether_addr", "ipv4_addr"],
                 "elem": [{"concat": [port.link, port.mac, port.ipv4]} for port in ports]}},
        {"set": {**place, "name": ADDRESSES_SET, "type": "ipv4_addr",
                 "elem": sorted({*(port.ipv4 for port in ports), *layout.gateways})}},
        *(ipv6_port_rules.sets(place, layout, ports) if layout.ipv6_pools else []),
        {"chain": {**place, "name": "from_task"}},
        hooked("frames", "prerouting"),
        hooked("to_host", "input"),
        hooked("to_task", "postrouting"),
        rule("from_task", "blocked address", _ethertype("ip"),
             nft.match(nft.field("ip", "daddr"), {"set": never}), *nft.COUNTED_DROP),
        rule("from_task", "address that nobody has", _ethertype("ip"),
             nft.match(nft.field("ip", "daddr"), {"set": [nft.prefix(pool) for pool in pools]}),
             nft.match(nft.field("ip", "daddr"), f"@{ADDRESSES_SET}", "!="),
             *nft.COUNTED_DROP),
        rule("from_task", "errors of routers", _ethertype("ip"), icmp,
             nft.match(nft.field("icmp", "type"), {"set": ERRORS_OF_ROUTERS}),
             *nft.COUNTED_DROP),
        rule("from_task", "unreachable by a router", _ethertype("ip"), icmp,
             nft.match(nft.field("icmp", "type"), "destination-unreachable"),
             nft.match(nft.field("icmp", "code"), {"set": UNREACHABLE_BY_THE_TARGET}, "!="),
             *nft.COUNTED_DROP),
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
        *rules("from_task", by_ipv6),
        rule("from_task", "all else", *nft.COUNTED_DROP),
        *(rule("frames", "of tasks", match, {"goto": {"target": "from_task"}}) for match in by_link("iifname")),
        *(rule("to_host", "not forwarded", match, nft.match(reserved, "01:80:c2:00:00:00"),
               {"drop": None}) for match in by_link("iifname")),
        *(rule("to_task", "for others", match, _ethertype("ip"),
               nft.match({"&": [nft.field("ether", "daddr"), _GROUP_BIT]}, "00:00:00:00:00:00"),
               _known("oifname", nft.field("ether", "daddr"), nft.field("ip", "daddr"), "!="),
               *nft.COUNTED_DROP) for match in by_link("oifname")),
        *(rule("to_task", "for others by IPv6", match, *ipv6_port_rules.to_task())
          for match in by_link("oifname") if by_ipv6),
    ]  # fmt: skip


def _ethertype(name: str) -> dict[str, Any]:
    # The type on the wire: for a tagged frame, that of the tag.
    return nft.match(nft.field("ether", "type"), name)


def _known(
    link: str, mac: dict[str, Any], address: dict[str, Any], operator: str = "=="
) -> dict[str, Any]:
    return nft.match({"concat": [nft.meta(link), mac, address]}, f"@{PORTS_SET}", operator)


def elements_of(port: BridgePort) -> tuple[Element, ...]:
    """Return the set and the key of each element of a port. Pure."""
    address = socket.inet_aton(port.ipv4)
    by_ipv4 = (PORTS_SET, _end_key(port.link, port.mac) + address), (ADDRESSES_SET, address)
    if not port.ipv6:
        return by_ipv4
    return *by_ipv4, _ipv6_element(port.link, port.mac, port.ipv6), _ipv6_address(port.ipv6)


def _end_key(link: str, mac: str) -> bytes:
    return link_key(link) + bytes.fromhex(mac.replace(":", "")) + bytes(2)


def _ipv6_element(link: str, mac: str, ipv6: str) -> Element:
    return ipv6_port_rules.PORTS_SET, _end_key(link, mac) + ipv6_port_rules.packed(ipv6)


def _ipv6_address(ipv6: str) -> Element:
    return ipv6_port_rules.ADDRESSES_SET, ipv6_port_rules.packed(ipv6)


class BridgePortRules:
    """Rules for frames from tasks. Keeps the desired state, and restores all of it.

    ``ensure`` and ``differences`` are for one caller at a time; any number of threads may call
    ``admit`` and ``dismiss`` at any time.
    """

    _family = FAMILY
    _family_number = BRIDGE_FAMILY
    _title = "bridge table"

    def __init__(self, table: str, blocked: Iterable[str]) -> None:
        """Take the parts; nothing is changed before ``ensure``.

        Args:
            table: name of the table, in the family of these rules.
            blocked: prefixes that tasks must not reach.
        """
        self.problem = ""
        """Why this host cannot have such rules; empty if it can."""
        self._table = table
        self._blocked = tuple(blocked)
        self._layout: Layout | None = None
        self._ports: dict[str, BridgePort] = {}
        self._lock = threading.Lock()
        self._sets = SetElements(self._family_number, table)

    @property
    def port_id(self) -> int:
        """Netlink port id of the socket that ``admit`` and ``dismiss`` make changes by; 0 for none."""
        return self._sets.port_id

    def ensure(self, layout: Layout, ports: Iterable[BridgePort] | None = None) -> None:
        """Create or correct the table; idempotent. Sets ``problem`` if the host cannot have it.

        Args:
            layout: the input for the rules.
            ports: all ports to admit; None for those already admitted.

        Raises:
            NetworkFailure: ``nft`` is missing or failed, although the host has bridge tables.
        """
        with self._lock:
            if ports is not None:
                self._ports = {port.link: port for port in ports}
            wanted = list(self._ports.values())
            self._layout = layout
        commands = self._commands(layout, wanted)
        listed = nft.listed(self._family, self._table)
        if listed is None or not nft.has_rules_of(commands, listed):
            try:
                nft.apply(commands)
            except NetworkFailure:
                self.problem = self._why_not()
                if not self.problem:
                    raise
                return
        self.problem = ""
        # Ports admitted in the meantime are in the old table, or already in this one.
        for _ in range(_TRIES):
            missing, excess = self._off(layout)
            if not missing and not excess:
                return
            try:
                self._sets.commit([*missing, *excess])
            except FileNotFoundError:
                # A port was dismissed since the look, and its elements went with it. What is
                # missing must not wait for that; what is too much is looked up again.
                self._commit_each([*missing, *excess])

    def differences(self, layout: Layout) -> list[str]:
        """Return in words what differs from the state after ``ensure``; empty if nothing does.

        Raises:
            NetworkFailure: ``nft`` is missing or did not answer.
        """
        if self.problem:
            return []
        listed = nft.listed(self._family, self._table)
        if listed is None:
            return [f"the {self._title} {self._table} was removed"]
        if not nft.has_rules_of(self._commands(layout), listed):
            return [f"the {self._title} {self._table} was changed"]
        missing, excess = self._compare(layout, listed)
        if not missing and not excess:
            return []
        counts = f"{len(missing)} missing, {len(excess)} foreign"
        return [f"addresses of tasks in the {self._title} {self._table} were changed ({counts})"]

    def admit(self, port: BridgePort) -> int:
        """Accept what a task sends with its own addresses; idempotent.

        Returns:
            The number of transactions, 0 if unknown.

        Raises:
            NetworkFailure: the kernel refused.
        """
        with self._lock:
            self._ports[port.link] = port
            layout = self._layout
        if self.problem:
            return 0
        try:
            self._sets.commit([Change(name, key) for name, key in self._elements(port)])
        except FileNotFoundError:
            # Somebody just flushed the table; without it the port would be open.
            if layout is not None:
                self.ensure(layout)
            return 0
        return 1

    def dismiss(self, link: str) -> int:
        """Accept nothing from a link any more; not an error if it is unknown.

        Returns:
            The number of transactions.

        Raises:
            NetworkFailure: the kernel refused.
        """
        with self._lock:
            port = self._ports.pop(link, None)
        if port is None or self.problem:
            return 0
        gone = [Change(name, key, removed=True) for name, key in self._elements(port)]
        try:
            self._sets.commit(gone)
        except FileNotFoundError:
            return self._commit_each(gone)
        return 1

    def remove(self) -> None:
        """Remove the table; not an error if it does not exist.

        Raises:
            NetworkFailure: ``nft`` is missing or failed.
        """
        if not self.problem:
            nft.remove(self._family, self._table)
        self.close()

    def close(self) -> None:
        """Close the socket; rules stay, and a later change opens it again."""
        self._sets.close()

    def _commit_each(self, changes: Iterable[Change]) -> int:
        """Make each change by itself, without those of an element or a table that is gone.

        One such change fails a whole transaction. Returns the number of transactions made.
        """
        made = 0
        for change in changes:
            with contextlib.suppress(FileNotFoundError):
                self._sets.commit([change])
                made += 1
        return made

    def _why_not(self) -> str:
        """Return why the host cannot have a bridge table, or an empty string if it can."""
        answer = nft.run("nft", "add", "table", self._family, self._table)
        if answer.returncode == 0:
            return ""
        said = next(iter(answer.stderr.strip().splitlines()), f"exit code {answer.returncode}")
        return (
            f"nftables cannot filter frames on bridges ({said.removeprefix('Error: ')}), so a task "
            "can send with its neighbour's address; load the module nf_tables_bridge, or install "
            "the kernel's extra modules, and restart the agent"
        )

    def _off(self, layout: Layout) -> tuple[list[Change], list[Change]]:
        listed = nft.listed(self._family, self._table)
        if listed is None:
            raise NetworkFailure(
                f"the {self._title} {self._table} was removed while it was created"
            )
        return self._compare(layout, listed)

    def _compare(
        self, layout: Layout, listed: Sequence[dict[str, Any]]
    ) -> tuple[list[Change], list[Change]]:
        """Return the missing and the extra elements of the sets."""
        with self._lock:
            ports = set(self._ports.values())
        wanted = {element for port in ports for element in self._elements(port)}
        wanted |= self._elements_of_host(layout)
        present = self._present(listed)
        missing = [Change(*element) for element in wanted - present]
        return missing, [Change(*element, removed=True) for element in present - wanted]

    def _commands(self, layout: Layout, ports: Iterable[BridgePort] = ()) -> list[dict[str, Any]]:
        return ruleset(self._table, layout, self._blocked, ports)

    def _elements(self, port: BridgePort) -> tuple[Element, ...]:
        return elements_of(port)

    def _elements_of_host(self, layout: Layout) -> set[Element]:
        by_ipv6 = set(map(_ipv6_address, layout.ipv6_gateways))
        return by_ipv6 | {(ADDRESSES_SET, socket.inet_aton(gateway)) for gateway in layout.gateways}

    def _present(self, listed: Sequence[dict[str, Any]]) -> set[Element]:
        present = {
            elements_of(BridgePort(*element["concat"]))[0]
            for element in nft.elements(listed, PORTS_SET)
        }
        addresses = nft.elements(listed, ADDRESSES_SET)
        present |= {(ADDRESSES_SET, socket.inet_aton(ipv4)) for ipv4 in addresses}
        by_ipv6 = nft.elements(listed, ipv6_port_rules.PORTS_SET)
        present |= {_ipv6_element(*element["concat"]) for element in by_ipv6}
        return present | set(
            map(_ipv6_address, nft.elements(listed, ipv6_port_rules.ADDRESSES_SET))
        )
