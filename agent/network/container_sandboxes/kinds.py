"""Kinds of sandboxes: the network mode, and which ports of the container the host publishes. Pure.

The engine publishes the ports of a sandbox when it starts it, so they are picked ahead, and belong to
whichever container takes it. That works for ports that the agent may choose: sandboxes of one kind
serve every container with the same mappings, whatever task it belongs to.

Tests: ``tests/unit/network/container_sandboxes/test_kinds.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.network.demand import SANDBOX_BYTES

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from typing import Any

LABEL: Final = "ecs-host-agent.container-sandbox"
"""Label of every such sandbox; the value is the owner."""
PORTS_LABEL: Final = "ecs-host-agent.container-sandbox-ports"
"""Label of a sandbox with published ports; the value is ``Kind.text``."""
MODES: Final = ("none", "bridge")
"""Of sandboxes that there may be; those of ``none`` are from earlier versions."""
MOST_PORTS: Final = 16
"""Sandboxes with more ports than this are not kept: each port costs a process of the engine or two."""
PORT_BYTES: Final = 4 << 20
"""Memory of one published port: the engine's programs that pass connections on."""

Bindings = dict[str, list[int]]
"""Host ports by ``port/protocol`` of the container, in the order of the mappings."""


class Kind(NamedTuple):
    """What a sandbox has."""

    mode: str
    ports: tuple[str, ...] = ()
    """``80/tcp`` or ``8000-8009/udp`` for each mapping, in their order."""

    @property
    def text(self) -> str:
        """The ports as a text, as ``read`` reads it."""
        return " ".join(self.ports)

    @property
    def bytes(self) -> int:
        """Memory of one ready sandbox."""
        return SANDBOX_BYTES + PORT_BYTES * self.port_count

    @property
    def port_count(self) -> int:
        """How many ports the host publishes for one sandbox."""
        return sum(len(numbers) for numbers, _ in self.mappings())

    def mappings(self) -> Iterator[tuple[range, str]]:
        """Yield the container ports and the protocol of each mapping."""
        for each in self.ports:
            numbers, _, protocol = each.partition("/")
            first, _, last = numbers.partition("-")
            yield range(int(first), int(last or first) + 1), protocol

    @property
    def is_kept(self) -> bool:
        """Whether sandboxes of this kind are ever kept ready."""
        return self.mode == "bridge" and self.port_count <= MOST_PORTS

    def bindings(self, picked: Sequence[Sequence[int]]) -> Bindings:
        """Return the bindings if these host ports were picked, one run for each mapping."""
        found: Bindings = {}
        for (numbers, protocol), hosts in zip(self.mappings(), picked, strict=True):
            for number, host in zip(numbers, hosts, strict=True):
                found.setdefault(f"{number}/{protocol}", []).append(host)
        return found

    def fits(self, bindings: Mapping[str, Sequence[int]]) -> bool:
        """Return whether a sandbox with these bindings is of this kind."""
        wanted = self.bindings([numbers for numbers, _ in self.mappings()])
        return {port: len(hosts) for port, hosts in bindings.items() if hosts} == {
            port: len(hosts) for port, hosts in wanted.items()
        }


def read(mode: str, text: str) -> Kind | None:
    """Return the kind of a sandbox with this label; None for a label that is not ours."""
    kind = Kind(mode, tuple(text.split()))
    try:
        return kind if mode in MODES and kind.port_count <= MOST_PORTS else None
    except ValueError:
        return None


def held_ports(bindings: Mapping[str, Sequence[int]]) -> list[tuple[str, list[int]]]:
    """Return the host ports of a sandbox, each list with its protocol."""
    return [(port.rpartition("/")[2], list(hosts)) for port, hosts in bindings.items()]


def overlap(bindings: Mapping[str, Sequence[int]], taken: Container[tuple[str, int]]) -> bool:
    """Return whether a sandbox has one of these host ports, given by protocol and number."""
    held = ((protocol, port) for protocol, ports in held_ports(bindings) for port in ports)
    return any(each in taken for each in held)


def without(bindings: Mapping[str, Sequence[int]], taken: Container[tuple[str, int]]) -> Bindings:
    """Return the bindings less those of these host ports."""
    return {
        port: [host for host in hosts if (port.rpartition("/")[2], host) not in taken]
        for port, hosts in bindings.items()
    }


def body(
    image: str, kind: Kind, owner: str, bindings: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Return the create body of a sandbox."""
    labels = {LABEL: owner, **({PORTS_LABEL: kind.text} if kind.ports else {})}
    published = {
        "PortBindings": {
            port: [{"HostPort": str(host)} for host in hosts] for port, hosts in bindings.items()
        }
    }
    return {
        "Image": image,
        "Labels": labels,
        **({"ExposedPorts": {port: {} for port in bindings}} if bindings else {}),
        "HostConfig": {
            "NetworkMode": kind.mode,
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
            **(published if bindings else {}),
        },
    }
