"""What a driver of task networks does, for the host's part and for the sandboxes.

A driver owns what is between the host and a task's interface. Firewall, forwarding, the agent's
address, rows and containers are the same for all of them, and not its business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent.network.address_pool import Ipv6Lease
    from agent.network.bridge.bridge_port_rules import BridgePort, Layout
    from agent.network.bridge.bridge_ports import Place
    from agent.network.bridge.links import SandboxLink
    from agent.network.sandbox_record import SandboxRecord


class Subnet(NamedTuple):
    """What a new task is told of the network around its address."""

    prefix_len: int
    """Of the task's own address; 32 if every other address is behind the gateway."""
    gateway: str
    """Of the default route; empty if the default route leads to the link itself."""


class WatchedLink(NamedTuple):
    """The link of the host that all tasks depend on, as kernel messages name it."""

    name: str
    """Empty if tasks depend on no link of the host."""
    number: int
    """The kernel's last known index of the link; 0 if unknown."""
    mac: str
    """The intended MAC; empty if it is not ours to decide."""
    port_master: int
    """Index of the link that every host end must be on; 0 if they must be on none."""


class PortRules(Protocol):
    """What each task may send, by the host end of its link.

    ``ensure`` and ``differences`` are for one caller at a time; any number of threads may call
    ``admit`` and ``dismiss`` at any time. All of it blocks.
    """

    problem: str
    """Why this host cannot have such rules; empty if it can."""

    @property
    def port_id(self) -> int:
        """Netlink port id of the socket by which ``admit`` and ``dismiss`` work; 0 for none."""
        ...

    def ensure(self, layout: Layout, ports: Iterable[BridgePort] | None = None) -> None:
        """Create or correct the rules; ``ports`` is None for those already admitted. Idempotent.

        Raises:
            NetworkFailure: ``nft`` is missing or failed.
        """
        ...

    def differences(self, layout: Layout) -> list[str]:
        """Return in words what differs from the state after ``ensure``; empty if nothing does."""
        ...

    def admit(self, port: BridgePort) -> int:
        """Accept what a task sends with its own addresses; idempotent.

        Returns:
            The number of transactions, 0 if unknown.

        Raises:
            NetworkFailure: the kernel refused.
        """
        ...

    def dismiss(self, link: str) -> int:
        """Accept nothing from a link any more, and return the number of transactions. Idempotent."""
        ...

    def remove(self) -> None:
        """Remove the rules; not an error if they do not exist."""
        ...

    def close(self) -> None:
        """Close the socket; rules stay."""
        ...


class TaskDriver(Protocol):
    """One way to give tasks addresses of their own. Belongs to one event loop.

    Every call describes a wanted state and is idempotent: one that failed halfway, or was cut off, is
    made up for by the same call. Each raises ``NetworkFailure`` if the kernel refuses.
    """

    name: str
    """As in ``ECS_TASK_NETWORK_DRIVER``, and in the rows of its sandboxes."""
    table_inside: str
    """Table of the netdev family in each task's namespace that decides what leaves it there; empty if
    all that a task sends passes the rules of the host."""

    @property
    def rules(self) -> PortRules:
        """What each task may send, where the host can decide it."""
        ...

    @property
    def subnet(self) -> Subnet:
        """What new tasks are told. Pure."""
        ...

    @property
    def mtu(self) -> int:
        """MTU in bytes of new tasks' interfaces. Pure."""
        ...

    @property
    def watched(self) -> WatchedLink:
        """The link whose loss is the loss of all tasks. Pure."""
        ...

    def mac_of(self, ipv4: str) -> str:
        """Return the MAC of a new task's interface, as ECS shows it. Pure."""
        ...

    def ipv6_of(self, ipv4: str) -> Ipv6Lease | None:
        """Return what a new task with this address has of IPv6; None without a pool of it. Pure."""
        ...

    def layout(self, records: Iterable[SandboxRecord]) -> Layout:
        """Return the input for the rules: pools, and the host's own addresses in them. Pure."""
        ...

    async def ensure(self, records: Collection[SandboxRecord]) -> list[str]:
        """Create or correct what all tasks share on the host; return in words what was wrong.

        Raises:
            NetworkFailure: the kernel refused, or a link that others own is missing.
        """
        ...

    async def differences(self, records: Collection[SandboxRecord]) -> list[str]:
        """Return what ``ensure`` would correct, in its words; changes nothing."""
        ...

    async def attach(self, netns: int, link: SandboxLink) -> None:
        """Create a task's interface and all that leads to it; replaces what is left of an earlier one.

        Args:
            netns: descriptor of the task's namespace; stays open.
            link: properties of the interface.
        """
        ...

    async def present(self) -> frozenset[str]:
        """Return the names of the host ends that are where this driver puts them."""
        ...

    async def places(self, records: Collection[SandboxRecord]) -> dict[str, Place]:
        """Return the state of each task's link, by the name of its host end. Changes nothing."""
        ...

    async def put_back(self, records: Collection[SandboxRecord]) -> None:
        """Restore the settings of existing links; missing ones are skipped, they need ``attach``."""
        ...

    async def unknown(self, records: Collection[SandboxRecord]) -> list[SandboxRecord]:
        """Return the tasks to which the host has lost its way: neighbour or route. Changes nothing."""
        ...

    async def make_known(self, records: Collection[SandboxRecord]) -> None:
        """Restore the host's ways to these tasks; those without a link are skipped."""
        ...

    async def detach(self, link: str) -> None:
        """Remove a task's link, by the name of its host end, and all that leads to it."""
        ...

    async def remove(self) -> None:
        """Remove what all tasks share on the host; what others own stays."""
        ...
