"""The resources and identity of this host, read once at start.

Reads ``/proc``, ``/etc/os-release``, ``/etc/machine-id`` and ``/sys/fs/cgroup``, and asks the GPU
driver if GPUs are enabled. A fact that cannot be read is left empty, because no task needs it. Only
a reserve that leaves no memory is an error (``ConfigError``).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.errors import ConfigError
from agent.model.resources import MIB, HostResources
from agent.resources.gpu import GpuReport, read_gpus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.runtime.protocol import EngineInfo

_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


async def read_host(
    *,
    reserved_memory_mib: int,
    reserved_tcp: Iterable[int],
    reserved_udp: Iterable[int],
    gpu_enabled: bool,
    engine_info: EngineInfo,
    root: Path = Path("/"),
) -> HostResources:
    """Read everything that the instance registers with.

    Args:
        reserved_memory_mib: ``ECS_RESERVED_MEMORY``, which tasks cannot use.
        reserved_tcp: TCP ports that no task may publish.
        reserved_udp: UDP ports that no task may publish.
        gpu_enabled: ask the NVIDIA driver; if False, the host offers no GPU.
        engine_info: the engine's description of itself.
        root: where ``proc``, ``etc`` and ``sys`` are; for tests.

    Raises:
        ConfigError: the reserve leaves no memory for tasks.
    """
    gpus = await read_gpus() if gpu_enabled else GpuReport()
    found = await asyncio.to_thread(_survey, root)
    memory_mib = found.memory_mib - reserved_memory_mib
    if memory_mib <= 0:
        text = (
            f"ECS_RESERVED_MEMORY={reserved_memory_mib} leaves nothing of this host's"
            f" {found.memory_mib} MiB; set it below {found.memory_mib}"
        )
        raise ConfigError(text)
    return msgspec.structs.replace(
        found,
        memory_mib=memory_mib,
        reserved_tcp=frozenset(reserved_tcp),
        reserved_udp=frozenset(reserved_udp),
        gpus=gpus.gpus,
        gpu_driver_version=gpus.driver_version,
        engine_version=engine_info.version,
    )


def architecture_name(machine: str) -> str:
    """Return ECS's name for a machine type of ``uname``; an unknown type is returned unchanged."""
    return _ARCHITECTURES.get(machine, machine)


def os_family(os_release: str) -> str:
    """Return ``<id>_<version>`` from the text of an ``os-release`` file, for example ``debian_12``.

    Returns only the id for a distribution without versions, and ``linux`` for a file without an id.
    """
    fields: dict[str, str] = {}
    for line in os_release.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            fields[key] = value.strip("\"'")
    family = fields.get("ID") or "linux"
    version = fields.get("VERSION_ID", "")
    return f"{family}_{version}" if version else family


def cgroup_version(cgroup_root: Path) -> int:
    """Return 2 for the unified hierarchy and 1 for split controllers.

    A hybrid host also mounts the unified tree (``unified/``), but its controllers, with the files
    for limits and metrics, are version 1.
    """
    return 2 if (cgroup_root / "cgroup.controllers").exists() else 1


def mounts_nfs(root: Path, kernel: str) -> bool:
    """Tell whether a kernel has NFS 4, or a module of it that is loaded when it is needed."""
    if re.search(r"\bnfs4$", _read(root / "proc/filesystems"), re.MULTILINE):
        return True
    return has_module(root, kernel, "nfsv4")


def makes_vlans(root: Path, kernel: str) -> bool:
    """Tell whether a kernel has VLANs, or a module of them that is loaded when it is needed."""
    return (root / "proc/net/vlan").is_dir() or has_module(root, kernel, "8021q")


def impairs_networks(root: Path, kernel: str) -> bool:
    """Tell whether a kernel has all modules that faults need."""
    return all(has_module(root, kernel, name) for name in ("sch_netem", "sch_prio", "nft_hash"))


def memory_bytes(meminfo: str) -> int:
    """Return the memory of a host from its ``/proc/meminfo``; 0 if that does not say it."""
    found = re.search(r"^MemTotal: +(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def has_module(root: Path, kernel: str, name: str) -> bool:
    """Tell whether a kernel has a module: loaded, built in, or on disk to be loaded."""
    if (root / "sys/module" / name).is_dir():
        return True
    modules = root / "lib/modules" / kernel
    return any(
        re.search(rf"/{re.escape(name)}\.ko\b", _read(modules / listed))
        for listed in ("modules.dep", "modules.builtin")
    )


def _survey(root: Path) -> HostResources:
    release = _read(root / "etc/os-release") or _read(root / "usr/lib/os-release")
    kernel = os.uname()
    return HostResources(
        cpu_units=(os.cpu_count() or 1) * 1024,
        memory_mib=memory_bytes(_read(root / "proc/meminfo")) // MIB,
        hostname=socket.gethostname(),
        boot_id=_read(root / "proc/sys/kernel/random/boot_id").strip(),
        machine_id=_read(root / "etc/machine-id").strip(),
        architecture=architecture_name(kernel.machine),
        os_family=os_family(release),
        kernel=kernel.release,
        cgroup_version=cgroup_version(root / "sys/fs/cgroup"),
        mounts_nfs=mounts_nfs(root, kernel.release),
        makes_vlans=makes_vlans(root, kernel.release),
        impairs_networks=impairs_networks(root, kernel.release),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
