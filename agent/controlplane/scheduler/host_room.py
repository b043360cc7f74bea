"""What is free on a host while copies of a task are placed on it: CPU, memory, ports and GPUs.

Pure; no I/O. Tests: ``tests/unit/controlplane/scheduler/test_placement.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.controlplane.scheduler.instance import Instance, TaskNeeds

CPU = "RESOURCE:CPU"
MEMORY = "RESOURCE:MEMORY"
PORTS = "RESOURCE:PORTS"
GPU = "RESOURCE:GPU"
"""What a host is short of, as Amazon ECS names it."""


class HostRoom:
    """An instance while copies are being placed on it."""

    __slots__ = ("cpu", "gpu_rooms", "gpus", "group_tasks", "instance", "memory", "tcp", "udp")

    def __init__(self, instance: Instance, group: str) -> None:
        """Begin with what is free now; ``group`` is that of the copies."""
        self.instance = instance
        self.cpu = instance.cpu_units
        self.memory = instance.memory_mib
        # Nothing is copied before a copy of the task is placed: most hosts of a fleet get none.
        self.tcp = instance.tcp_ports
        self.udp = instance.udp_ports
        self.gpus = instance.gpus
        self.gpu_rooms = instance.gpu_rooms
        self.group_tasks = instance.task_groups.get(group, 0)

    def shortage(self, needs: TaskNeeds) -> str:
        """Return the reason why the host has no room for a copy, or an empty string."""
        if needs.cpu_units > self.cpu:
            return CPU
        if needs.memory_mib > self.memory:
            return MEMORY
        if needs.tcp_ports & self.tcp or needs.udp_ports & self.udp:
            return PORTS
        return "" if self._has_gpus(needs) else GPU

    def take(self, needs: TaskNeeds) -> dict[str, tuple[str, ...]]:
        """Reserve the resources of a copy; return the ids of its GPUs by container."""
        self.cpu -= needs.cpu_units
        self.memory -= needs.memory_mib
        self.tcp |= needs.tcp_ports
        self.udp |= needs.udp_ports
        self.group_tasks += 1
        gpus: dict[str, tuple[str, ...]] = {}
        if needs.all_gpus:
            gpus[needs.all_gpus] = self._give(len(self.gpus))
        for name, count in needs.gpus.items():
            gpus[name] = self._give(count)
        if needs.gpu_shares:
            shared = self._shared_gpu(needs)
            left = self.gpu_rooms[shared] - sum(needs.gpu_shares.values())
            self.gpu_rooms = {**self.gpu_rooms, shared: left}
            self.gpus = tuple(gpu for gpu in self.gpus if gpu != shared)
            gpus |= dict.fromkeys(needs.gpu_shares, (shared,))
        return gpus

    def _has_gpus(self, needs: TaskNeeds) -> bool:
        if needs.all_gpus and not 0 < self.instance.gpus_total == len(self.gpus):
            return False
        if needs.gpu_shares and not self._shared_gpu(needs):
            return False
        return needs.gpu_count <= len(self.gpus)

    def _shared_gpu(self, needs: TaskNeeds) -> str:
        """Return the GPU with the least room that is enough, so that others stay whole; or nothing."""
        mib = sum(needs.gpu_shares.values())
        enough = [(room, gpu) for gpu, room in self.gpu_rooms.items() if room >= mib]
        return min(enough)[1] if enough else ""

    def _give(self, count: int) -> tuple[str, ...]:
        given, self.gpus = self.gpus[:count], self.gpus[count:]
        self.gpu_rooms = {gpu: room for gpu, room in self.gpu_rooms.items() if gpu not in given}
        return given
