"""The NVIDIA GPUs of the host, read from the driver through NVML.

Uses ``pynvml`` (imported on first use) and through it the driver library. Never fails: a host
without a GPU is normal (one debug line), and a driver that is broken or does not answer causes a
warning. In both cases the host offers no GPU.

Source: Amazon ECS init 1.105.1 reads the driver version and the UUID of each device, and skips
devices that do not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from typing import TYPE_CHECKING, Any

import structlog
from msgspec import Struct

from agent.model.resources import MIB, Gpu

if TYPE_CHECKING:
    from types import ModuleType

_log = structlog.get_logger()

NVML_LIMIT_S = 20.0
"""The first call loads kernel modules and may take seconds on a host with eight devices."""


class GpuReport(Struct, frozen=True, kw_only=True):
    """The usable GPUs and their driver."""

    gpus: tuple[Gpu, ...] = ()
    driver_version: str = ""
    trouble: str = ""
    """Why existing GPUs cannot be offered; empty if nothing is wrong."""


async def read_gpus(*, limit_s: float = NVML_LIMIT_S) -> GpuReport:
    """Ask the driver for its GPUs; return an empty report if there are none.

    The calls run in their own thread. If they exceed ``limit_s``, the thread is left behind (a
    hanging driver cannot be interrupted) and does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[GpuReport] = loop.create_future()

    def deliver(report: GpuReport) -> None:
        if not answer.done():
            answer.set_result(report)

    def work() -> None:
        report = _ask_driver()
        with contextlib.suppress(RuntimeError):  # the loop ended before a slow driver answered
            loop.call_soon_threadsafe(deliver, report)

    threading.Thread(target=work, name="nvml", daemon=True).start()
    try:
        async with asyncio.timeout(limit_s):
            report = await answer
    except TimeoutError:
        report = GpuReport(trouble=f"the NVIDIA driver did not answer within {limit_s:g} s")
    if report.trouble:
        _log.warning("GPUs cannot be offered", cause=report.trouble, mend="check `nvidia-smi`")
    elif not report.gpus:
        _log.debug("this host has no NVIDIA GPU")
    return report


def _ask_driver() -> GpuReport:
    try:
        nvml = importlib.import_module("pynvml")
        return survey(nvml)
    except Exception as error:  # noqa: BLE001 - a failing driver library must not stop the host
        return GpuReport(trouble=f"{type(error).__name__}: {error}")


def survey(nvml: ModuleType | Any) -> GpuReport:
    """List the devices through an NVML binding. Blocks.

    Args:
        nvml: the ``pynvml`` module, or an object with the same functions.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return GpuReport()
        return GpuReport(trouble=f"NVML cannot be initialised: {error}")
    try:
        count = nvml.nvmlDeviceGetCount()
        gpus = tuple(unit for index in range(count) for unit in _units(nvml, index))
        if count and not gpus:
            told = f"none of the {count} GPUs answers or has a MIG device"
            return GpuReport(trouble=told)
        version = _text(nvml.nvmlSystemGetDriverVersion()) if gpus else ""
        return GpuReport(gpus=gpus, driver_version=version)
    except nvml.NVMLError as error:
        return GpuReport(trouble=f"NVML failed: {error}")
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _units(nvml: ModuleType | Any, index: int) -> list[Gpu]:
    """Return what one GPU gives to tasks: itself, or the MIG devices that it was divided into.

    A container can use a GPU whole or its MIG devices, never both: a GPU in MIG mode that was not
    divided gives nothing.
    """
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        whole = _unit(nvml, handle)
        parts = _mig_devices(nvml, handle)
    except nvml.NVMLError as error:
        _log.warning("a GPU does not answer; skipping it", index=index, cause=str(error))
        return []
    if parts is None:
        return [whole]
    if not parts:
        _log.warning(
            "a GPU in MIG mode has no devices; skipping it",
            gpu=whole.uuid,
            mend="make some with 'nvidia-smi mig -cgi ... -C', or turn MIG mode off",
        )
    return parts


def _mig_devices(nvml: ModuleType | Any, handle: Any) -> list[Gpu] | None:
    """Return the MIG devices of a GPU; None if it is not in MIG mode, or cannot be."""
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError as error:
        if error.value in {nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND}:
            return None
        raise
    if current != nvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_NOT_FOUND:
                continue  # places of devices that were not made
            raise
        found.append(_unit(nvml, part))
    return found


def _unit(nvml: ModuleType | Any, handle: Any) -> Gpu:
    uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    name, memory_mib = "", 0
    with contextlib.suppress(nvml.NVMLError):  # name and size are optional; the UUID is enough
        name = _text(nvml.nvmlDeviceGetName(handle))
        memory_mib = int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // MIB
    return Gpu(uuid=uuid, name=name, memory_mib=memory_mib)


def _text(value: bytes | str) -> str:
    """Return a string; older bindings return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
