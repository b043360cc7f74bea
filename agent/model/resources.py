"""What a host has and what a task needs of it.

Numbers are CPU units (1024 to a core) and MiB. Source of the rules: Amazon ECS agent 1.105.1,
``agent/engine/host_resource_manager.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.model.payload import Container, TaskPayload

MIB = 1024 * 1024


class Gpu(Struct, frozen=True, kw_only=True, rename="camel"):
    """One GPU of the host, or one device that MIG made of a part of it: a unit that tasks are given."""

    uuid: str
    """``GPU-...`` or ``MIG-...``."""
    name: str = ""
    memory_mib: int = 0

    @property
    def is_shareable(self) -> bool:
        """Whether MPS can share it by memory."""
        return self.memory_mib > 0 and not self.uuid.startswith("MIG-")


class HostResources(Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything the host offers to tasks, and what identifies it."""

    cpu_units: int
    memory_mib: int
    reserved_tcp: frozenset[int] = frozenset()
    reserved_udp: frozenset[int] = frozenset()
    gpus: tuple[Gpu, ...] = ()
    gpu_driver_version: str = ""
    hostname: str = ""
    boot_id: str = ""
    machine_id: str = ""
    architecture: str = ""
    """``x86_64`` or ``arm64``, the names that ECS uses."""
    os_family: str = ""
    """For example ``debian_12``."""
    kernel: str = ""
    cgroup_version: int = 2
    mounts_nfs: bool = False
    """The kernel has NFS 4, or can load it."""
    impairs_networks: bool = False
    """The kernel can delay and lose packets: it has ``netem``, ``prio`` and hashes in nftables."""
    makes_vlans: bool = False
    """The kernel can make links of kind ``vlan``."""
    engine_version: str = ""


class Needs(Struct, frozen=True, kw_only=True):
    """What one task uses on the host while it lives."""

    cpu_units: int = 0
    memory_mib: int = 0
    tcp_ports: frozenset[int] = frozenset()
    udp_ports: frozenset[int] = frozenset()
    gpus: frozenset[str] = frozenset()
    """Those that no other task may use."""
    gpu_shares: dict[str, int] = field(default_factory=dict)
    """MiB of GPUs that are shared with other tasks (MPS)."""


def room_to_share(gpu: Gpu, taken: Iterable[Needs]) -> int | None:
    """Return the MiB of a GPU that may still be shared; None if it is given away whole or cannot be."""
    room = gpu.memory_mib
    for needs in taken:
        if gpu.uuid in needs.gpus:
            return None
        room -= needs.gpu_shares.get(gpu.uuid, 0)
    return room if gpu.is_shareable else None


def needs_of(payload: TaskPayload) -> Needs:
    """Return what a task needs.

    CPU is that of the task, or the sum over its containers. Memory is that of the task, or the sum
    of each container's reservation or limit. Ports are the fixed ones; there are none in awsvpc
    mode, where the task has its own address. Dynamic ports are picked later and not counted.
    """
    ports = _fixed_ports(payload)
    shares = _gpu_shares(payload)
    return Needs(
        cpu_units=int(payload.cpu * 1024) or sum(c.cpu for c in payload.containers),
        memory_mib=payload.memory or sum(_memory_mib(c) for c in payload.containers),
        tcp_ports=frozenset(p for p, protocol in ports if protocol == "tcp"),
        udp_ports=frozenset(p for p, protocol in ports if protocol == "udp"),
        gpus=frozenset(a.name for a in payload.associations if a.type == "gpu") - shares.keys(),
        gpu_shares=shares,
    )


def _gpu_shares(payload: TaskPayload) -> dict[str, int]:
    shared = {c.name: c.gpu_share for c in payload.containers if c.gpu_share is not None}
    shares: dict[str, int] = {}
    for association in payload.associations:
        for name in association.containers:
            if association.type == "gpu" and name in shared:
                mib = shared[name].memory
                shares[association.name] = shares.get(association.name, 0) + mib
    return shares


def _fixed_ports(payload: TaskPayload) -> list[tuple[int, str]]:
    if payload.mode is NetworkMode.AWSVPC:
        return []
    return [
        (mapping.host_port, mapping.protocol or "tcp")
        for container in payload.containers
        for mapping in container.port_mappings
        if mapping.host_port
    ]


def _memory_mib(container: Container) -> int:
    return _reservation_mib(container) or container.memory


def _reservation_mib(container: Container) -> int:
    """Return the soft limit, which is only in the engine's host configuration, in bytes."""
    host_config = container.docker_config.host_config
    if not isinstance(host_config, dict):
        return 0
    try:
        return int(host_config.get("MemoryReservation") or 0) // MIB
    except (ValueError, TypeError, OverflowError):
        return 0


class Wait(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One thing that a task waits for; ``ecs-agent why`` prints these in order."""

    what: str
    """A sentence for a person: "2048 MiB of memory; 512 of 1024 MiB are free"."""
    since: float
    next_try: float = 0.0
    """Unix time of the next try; 0 if an event, not a timer, ends the wait."""
    container: str = ""
    details: dict[str, str] = field(default_factory=dict)
