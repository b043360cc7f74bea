"""GPUs: whether there are any, whether the driver works, and whether containers can use them."""

from __future__ import annotations

import importlib
import shutil
from typing import TYPE_CHECKING, Any

import msgspec

from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList
from agent.resources import gpu
from agent.resources.gpu import GpuReport

if TYPE_CHECKING:
    from pathlib import Path

    from agent.doctor.host import EngineFacts, HostFacts

_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
_HOOKS = ("nvidia-container-runtime-hook", "nvidia-container-cli")
_TOOLKIT = "install the package nvidia-container-toolkit, set it up for Docker and restart Docker"
_TOOLKIT_COMMAND = "nvidia-ctk runtime configure --runtime=docker && systemctl restart docker"


class Gpus(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about GPUs."""

    hardware: int | None = 0
    """NVIDIA display devices on the PCI bus; None if the bus cannot be read."""
    driver: GpuReport = GpuReport()
    hook: bool = False
    """The program with which Docker gives GPUs to containers is installed."""


async def check(host: HostFacts) -> list[Finding]:
    """Read the bus, ask the driver unless GPUs are turned off, and look for the toolkit."""
    wanted = host.settings.gpu_support
    found = Gpus(
        hardware=await reading.blocking(lambda: _hardware(host.root / "sys/bus/pci/devices")),
        driver=await reading.blocking(_ask_driver) if wanted is not False else GpuReport(),
        hook=any(shutil.which(name) for name in _HOOKS),
    )
    runtime = host.settings.nvidia_runtime
    return judge(found, wanted=wanted, engine=await host.engine(), runtime=runtime)


def _hardware(devices: Path) -> int | None:
    count = 0
    try:
        for device in devices.iterdir():
            vendor = reading.text_of(device / "vendor").strip()
            kind = reading.text_of(device / "class").strip()
            count += vendor == _NVIDIA and kind.startswith(_DISPLAY_CLASS)
    except FileNotFoundError:
        return 0  # a machine without the bus
    except OSError as error:
        reading.note_refusal(devices, error)
        return None
    return count


def _ask_driver() -> GpuReport:
    """Ask the driver like the agent does. Blocks."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        return gpu.survey(nvml)
    except Exception as error:  # noqa: BLE001 - any failure of a driver library is a finding
        return GpuReport(trouble=f"{type(error).__name__}: {error}")


def judge(
    found: Gpus, *, wanted: bool | None, engine: EngineFacts, runtime: str = ""
) -> list[Finding]:
    """Return the verdict. Pure.

    Args:
        found: what the host has.
        wanted: ``ECS_ENABLE_GPU_SUPPORT``; None if not set.
        engine: the container engine.
        runtime: ``ECS_NVIDIA_RUNTIME``; empty if not set.
    """
    verdict = FindingList("gpu")
    if wanted is False:
        verdict.ok("GPUs are turned off by ECS_ENABLE_GPU_SUPPORT")
    elif found.driver.trouble:
        verdict.error(
            f"the NVIDIA driver does not work, so no GPU is offered: {found.driver.trouble}",
            "install a driver that matches the kernel, and reboot",
            "nvidia-smi",
        )
    elif found.driver.gpus:
        _judge_use(verdict, found, engine, runtime)
    elif found.hardware:
        verdict.warn(
            f"{found.hardware} NVIDIA GPU(s) on the bus, but no driver: they are not offered",
            "install the driver, or set ECS_ENABLE_GPU_SUPPORT=false if they are not for tasks",
        )
    elif wanted:
        verdict.error(
            "ECS_ENABLE_GPU_SUPPORT is true, but there is no NVIDIA GPU",
            "install the driver if there should be one, or remove the setting",
            "lspci -d 10de:",
        )
    elif found.hardware is None:
        verdict.unknown("whether there is a GPU", "the bus cannot be read")
    else:
        verdict.ok("no GPU")
    return verdict.findings


def _judge_use(verdict: FindingList, found: Gpus, engine: EngineFacts, runtime: str) -> None:
    count, version = len(found.driver.gpus), found.driver.driver_version
    name = found.driver.gpus[0].name or "NVIDIA"
    runtimes = engine.info.get("Runtimes") or {}
    if runtime and runtime not in runtimes:
        verdict.error(
            f"containers with GPUs cannot start: the engine has no runtime {runtime} "
            "(ECS_NVIDIA_RUNTIME)",
            "set it up in the engine and restart Docker, or remove the setting",
            _TOOLKIT_COMMAND,
        )
        return
    if found.hook or "nvidia" in runtimes:
        verdict.ok(f"{count} GPU(s) ({name}), driver {version}, and the toolkit for containers")
        return
    verdict.error(
        f"{count} GPU(s) ({name}) would be offered, but containers cannot use them: the NVIDIA "
        "container toolkit is missing",
        _TOOLKIT,
        _TOOLKIT_COMMAND,
    )
