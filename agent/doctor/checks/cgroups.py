"""Control groups: which version, who manages them, and whether limits are really enforced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent.cgroups.mount import CgroupMount
from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList
from agent.resources.inventory import cgroup_version

if TYPE_CHECKING:
    from agent.doctor.host import EngineFacts, HostFacts

_BUS = "run/dbus/system_bus_socket"
_KERNEL_LINE = (
    "add cgroup_enable=memory swapaccount=1 to the kernel's command line (GRUB_CMDLINE_LINUX in "
    "/etc/default/grub, or cmdline.txt on a Raspberry Pi) and reboot"
)


class Cgroups(msgspec.Struct, frozen=True, kw_only=True):
    """What the host itself says."""

    version: int
    controllers: frozenset[str] = frozenset()
    systemd: bool = False
    """Systemd is process 1 and manages the tree."""
    swap_kib: int = 0
    place: str = "/sys/fs/cgroup"
    """``ECS_CGROUP_PATH``."""
    mounted: bool = True
    """There are control groups at that place."""
    bus: bool = True
    """Systemd can be asked over the system bus."""
    task_limits: bool | None = None
    """``ECS_ENABLE_TASK_CPU_MEM_LIMIT``; None where the host decides."""


async def check(host: HostFacts) -> list[Finding]:
    """Compare what the host has with what the engine uses."""
    found = await reading.blocking(lambda: _look(host))
    return judge(found, await host.engine())


def _look(host: HostFacts) -> Cgroups:
    root = host.root
    version = cgroup_version(root / "sys/fs/cgroup")
    if version == 2:
        names = frozenset(reading.text_of(root / "sys/fs/cgroup/cgroup.controllers").split())
    else:
        names = enabled_controllers(reading.text_of(root / "proc/cgroups"))
    return Cgroups(
        version=version,
        controllers=names,
        systemd=(root / "run/systemd/system").is_dir(),
        swap_kib=swap_kib(reading.text_of(root / "proc/meminfo")),
        place=str(host.settings.cgroup_path),
        mounted=CgroupMount.find(root / str(host.settings.cgroup_path).lstrip("/")).version > 0,
        bus=(root / _BUS).exists(),
        task_limits=host.settings.task_limits,
    )


def enabled_controllers(text: str) -> frozenset[str]:
    """Return the enabled controllers of a ``/proc/cgroups``."""
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return frozenset(row[0] for row in rows if len(row) == 4 and row[3] == "1")


def swap_kib(meminfo: str) -> int:
    """Return the swap size in a ``/proc/meminfo``; 0 if there is none."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "SwapTotal" and value.split():
            return int(value.split()[0])
    return 0


def judge(found: Cgroups, engine: EngineFacts) -> list[Finding]:
    """Return the verdict; without an engine, only the part about the host. Pure."""
    verdict = FindingList("cgroups")
    if not found.controllers:
        verdict.unknown(
            "which controllers the kernel has",
            "there is no list",
            "mount /proc and the control groups",
            "mount | grep -E 'proc|cgroup'",
        )
        return verdict.findings
    for name, leads_to in (
        ("memory", "container memory is not limited and not measured"),
        ("cpu", "CPU shares of containers have no effect"),
    ):
        if name not in found.controllers:
            verdict.error(f"the kernel's {name} controller is off: {leads_to}", _KERNEL_LINE)
    if "pids" not in found.controllers:
        verdict.warn(
            "the kernel's pids controller is off: process limits have no effect",
            "use a kernel built with CONFIG_CGROUP_PIDS",
        )
    if engine.info:
        _judge_engine(verdict, found, engine)
    elif not verdict.findings:
        verdict.ok(f"version {found.version}, with memory, cpu and pids")
    return verdict.findings


def _judge_engine(verdict: FindingList, found: Cgroups, engine: EngineFacts) -> None:
    info = engine.info
    driver, version = str(info.get("CgroupDriver", "")), str(info.get("CgroupVersion") or "1")
    if driver == "none":
        verdict.error(
            "the container engine does not manage control groups: task limits have no effect",
            "run the engine as root, not as a user",
        )
        return
    if version != str(found.version):
        verdict.error(
            f"the container engine uses cgroup version {version}, but the host has version "
            f"{found.version}",
            "restart the engine",
            "systemctl restart docker",
        )
    if found.systemd and found.version == 2 and driver == "cgroupfs":
        verdict.warn(
            "the engine manages control groups itself (cgroupfs) in a tree that systemd owns: "
            "systemd may move or remove them when it reloads",
            'while no task runs, put "exec-opts": ["native.cgroupdriver=systemd"] into '
            "/etc/docker/daemon.json and restart the engine",
            "systemctl restart docker",
        )
    _judge_limits(verdict, found, engine)
    _judge_task_limits(verdict, found, driver)
    verdict.ok(f"version {version}, managed by the engine with the driver {driver}")


def _judge_limits(verdict: FindingList, found: Cgroups, engine: EngineFacts) -> None:
    info = engine.info
    if info.get("MemoryLimit") is False and "memory" in found.controllers:
        verdict.error("the engine cannot limit memory", _KERNEL_LINE)
    if info.get("CpuCfsQuota") is False:
        verdict.warn(
            "the engine cannot limit the number of CPUs of a container",
            "use a kernel built with CONFIG_CFS_BANDWIDTH",
        )
    if info.get("PidsLimit") is False and "pids" in found.controllers:
        verdict.warn(
            "the engine cannot limit the number of processes",
            "use a kernel built with CONFIG_CGROUP_PIDS",
        )
    if info.get("SwapLimit") is False and found.swap_kib:
        verdict.warn(
            "swap is not counted: a container at its memory limit uses the host's swap",
            f"turn swap off (swapoff -a, and its line in /etc/fstab), or {_KERNEL_LINE}",
            "swapoff -a",
        )


def _judge_task_limits(verdict: FindingList, found: Cgroups, driver: str) -> None:
    """Tell what else keeps tasks from being limited as a whole, where somebody wants that."""
    if found.task_limits is False:
        return
    if driver == "systemd" and not found.bus:
        why = f"systemd cannot be asked for their control groups: there is no /{_BUS}"
        mend, command = "install and start dbus", "systemctl start dbus.socket"
    elif not found.mounted:
        why = f"there are no control groups at {found.place}"
        mend, command = "set ECS_CGROUP_PATH to where they are mounted", "mount -t cgroup,cgroup2"
    else:
        return
    if found.task_limits:
        leads_to = "with ECS_ENABLE_TASK_CPU_MEM_LIMIT=true, the agent does not start"
        verdict.error(f"tasks cannot be limited as a whole, and {leads_to}: {why}", mend, command)
    else:
        leads_to = "task definitions with cpu or memory are not placed on this host"
        verdict.warn(f"tasks cannot be limited as a whole, and {leads_to}: {why}", mend, command)
