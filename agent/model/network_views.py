"""Task networks of one host as operators see them: answers of the local endpoint and the CLI."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field


class _View(Struct, frozen=True, kw_only=True, rename="camel"):
    """Every field is always written, so that scripts can rely on it."""


class PoolView(_View, frozen=True):
    """One network from which tasks get their addresses."""

    cidr: str
    gateway: str
    """Of tasks; empty if they have none."""
    interface: str
    """Link of the host that has the gateway's address, or is the parent of tasks' interfaces."""
    mtu: int
    size: int
    """Number of addresses that tasks can have."""
    held: int
    resting: int
    """Addresses given back a short time ago, which nobody gets yet."""


class SandboxView(_View, frozen=True):
    """One network namespace with an address."""

    ipv4: str
    """By which logs name it; with IPv6 alone, it only leads to the agent."""
    state: str
    """WARM, CLAIMED, DEAD, LEAVING, or UNCLEAR until control has listed its tasks."""
    task: str
    """ARN of the task that holds it; empty if none does."""
    mac: str
    interface: str
    """The host's end of its link."""
    mtu: int
    container_id: str
    pid: int
    ipv6: str = ""
    """Empty if it has none."""


class DeviceView(_View, frozen=True):
    """One link of the host that belongs to task networks. Counters are the host's view."""

    name: str
    kind: str
    """``task``, or what all tasks depend on: ``bridge``, ``gateway`` (the loopback, which has its address),
    or ``parent``."""
    state: str
    """UP, DOWN or GONE."""
    mtu: int
    ipv4: str
    """Address of the task at its other end; empty for a link of all tasks."""
    rx_bytes: int
    rx_packets: int
    tx_bytes: int
    tx_packets: int


class RuleView(_View, frozen=True):
    """One rule of the agent's nftables tables."""

    family: str
    table: str
    chain: str
    rule: str
    """What it is for."""
    packets: int | None
    """Packets that it matched; None for a rule that does not count."""
    bytes: int | None


class FleetPeerView(_View, frozen=True):
    """Another host, to whose tasks there is a way."""

    id: str
    """The last element of its instance ARN."""
    range: str
    """IPv4 network of its tasks; empty without one."""
    address: str
    """Under which it is reached."""
    driver: str
    problem: str
    """Why its tasks are not reached; empty if they are."""
    last_handshake: float
    """Unix time of the last handshake of WireGuard; 0 if there was none."""
    rx_bytes: int
    """What came through WireGuard; 0 with another driver."""
    tx_bytes: int
    ipv6_range: str = ""
    """IPv6 network of its tasks; empty without one."""


class NetworkView(_View, frozen=True):
    """The networks of tasks on one host."""

    pools: list[PoolView] = field(default_factory=list)
    sandboxes: list[SandboxView] = field(default_factory=list)
    devices: list[DeviceView] = field(default_factory=list)
    rules: list[RuleView] = field(default_factory=list)
    peers: list[FleetPeerView] = field(default_factory=list)
    """Other hosts; empty where tasks do not reach tasks on other hosts."""
    problems: list[str] = field(default_factory=list)
    """One sentence per thing that does not work now."""


class DifferenceView(_View, frozen=True):
    """One difference between what the agent has recorded and what the kernel or the engine has."""

    found: str
    """In words."""
    repaired: bool


class NetworkCheckView(_View, frozen=True):
    """The result of a check of task networks."""

    repair: bool
    """Whether differences were to be repaired."""
    differences: list[DifferenceView] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Why something could not be repaired, one sentence each."""


class CheckOrder(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """An order of an operator to check task networks."""

    repair: bool = False


class TraceStep(_View, frozen=True):
    """One decision about a traced packet."""

    family: str
    table: str
    chain: str
    rule: str
    """The rule's text, its comment if it is ours, or ``policy`` at the end of a base chain."""
    verdict: str


class TraceView(_View, frozen=True):
    """What happened to one connection that was tried from a task."""

    source: str
    """Address of the task; empty if it has no route to the peer."""
    peer: str
    port: int
    protocol: str
    answer: str
    """``connected``, ``refused``, ``no answer``, ``answered`` for UDP, or an error of the kernel."""
    dropped_by: TraceStep | None
    """The rule that dropped the first packet; None if no nftables rule of this host did."""
    steps: list[TraceStep] = field(default_factory=list)
    """What decided on the first packet, in order."""


class TraceOrder(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """An order of an operator to try a connection from a task."""

    peer: str
    """An address, or a task of this host that has one."""
    port: Annotated[int, Meta(ge=1, le=65535)]
    protocol: Literal["tcp", "udp"] = "tcp"
