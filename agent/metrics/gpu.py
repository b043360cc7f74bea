"""What the host's NVIDIA GPUs do, asked of the driver through NVML once per round.

Only for hosts whose inventory found GPUs, which has loaded ``pynvml`` already. The calls run in a
thread of their own: a driver that hangs costs a round one second, once, and its GPU figures until
it answers again. What a GPU does not tell (a MIG device has no temperature of its own) is None.

A process belongs to the container whose id is in its control group.

Tests: ``tests/unit/metrics/test_gpu.py``.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import structlog

from agent.model.metrics import GpuSample, GpuUse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = structlog.get_logger()

_WAIT_S: Final = 1.0
_AGAIN_S: Final = 60.0
"""A driver that failed is tried again after this time."""
_Number = TypeVar("_Number", int, float)
_CONTAINER: Final = re.compile(r"[0-9a-f]{64}")


class GpuReading(NamedTuple):
    """One reading of all GPUs."""

    gpus: tuple[GpuSample, ...]
    uses: dict[str, tuple[GpuUse, ...]]
    """By the engine's id of the container."""


class _Devices:
    """The handles of the GPUs; used by one thread only."""

    def __init__(self, nvml: Any, uuids: Sequence[str], proc: Path) -> None:
        """Initialise NVML; raises ``nvml.NVMLError``."""
        self._nvml = nvml
        self._proc = proc
        nvml.nvmlInit()
        self._handles = {uuid: nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids}
        self._names = {
            uuid: self._asked("nvmlDeviceGetName", h) for uuid, h in self._handles.items()
        }
        self._seen_us = dict.fromkeys(uuids, 0)

    def read(self) -> GpuReading:
        """Ask every GPU; raises ``nvml.NVMLError`` if the driver fails as a whole."""
        self._nvml.nvmlDeviceGetCount()
        uses: dict[str, list[GpuUse]] = {}
        for uuid, handle in self._handles.items():
            for runtime_id, use in self._uses(uuid, handle).items():
                uses.setdefault(runtime_id, []).append(use)
        gpus = tuple(self._sample(uuid, handle) for uuid, handle in self._handles.items())
        return GpuReading(gpus, {runtime_id: tuple(used) for runtime_id, used in uses.items()})

    def close(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _asked(self, name: str, *arguments: Any) -> Any:
        """Return an answer of NVML; None if the GPU does not have it."""
        try:
            return getattr(self._nvml, name)(*arguments)
        except self._nvml.NVMLError:
            return None

    def _sample(self, uuid: str, handle: Any) -> GpuSample:
        memory = self._asked("nvmlDeviceGetMemoryInfo", handle)
        rates = self._asked("nvmlDeviceGetUtilizationRates", handle)
        celsius = self._asked("nvmlDeviceGetTemperature", handle, self._nvml.NVML_TEMPERATURE_GPU)
        milliwatts = self._asked("nvmlDeviceGetPowerUsage", handle)
        name = self._names[uuid]
        return GpuSample(
            uuid=uuid,
            name=name.decode(errors="replace") if isinstance(name, bytes) else name or "",
            utilization_percent=None if rates is None else float(rates.gpu),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            temperature_celsius=None if celsius is None else float(celsius),
            power_watts=None if milliwatts is None else milliwatts / 1000,
        )

    def _uses(self, uuid: str, handle: Any) -> dict[str, GpuUse]:
        """Return what containers use of one GPU, by their id."""
        memory: dict[int, int | None] = {}
        for kind in (
            "nvmlDeviceGetComputeRunningProcesses",
            "nvmlDeviceGetGraphicsRunningProcesses",
        ):
            for process in self._asked(kind, handle) or ():
                memory[process.pid] = process.usedGpuMemory
        busy: dict[int, list[int]] = {}
        since_us = self._seen_us[uuid]
        for told in self._asked("nvmlDeviceGetProcessUtilization", handle, since_us) or ():
            if told.timeStamp > since_us:
                busy.setdefault(told.pid, []).append(told.smUtil)
                self._seen_us[uuid] = max(self._seen_us[uuid], told.timeStamp)
        uses: dict[str, GpuUse] = {}
        for pid in memory.keys() | busy.keys():
            runtime_id = self._container_of(pid)
            if not runtime_id:
                continue
            shares = busy.get(pid)
            own = GpuUse(
                uuid=uuid,
                memory_bytes=memory.get(pid),
                utilization_percent=None if not shares else sum(shares) / len(shares),
            )
            uses[runtime_id] = _both(uses[runtime_id], own) if runtime_id in uses else own
        return uses

    def _container_of(self, pid: int) -> str:
        try:
            groups = (self._proc / str(pid) / "cgroup").read_text()
        except OSError:
            return ""
        found = _CONTAINER.search(groups)
        return found[0] if found else ""


def _both(first: GpuUse, second: GpuUse) -> GpuUse:
    """Return what two processes of a container use together."""
    return GpuUse(
        uuid=first.uuid,
        memory_bytes=_sum(first.memory_bytes, second.memory_bytes),
        utilization_percent=_sum(first.utilization_percent, second.utilization_percent),
    )


def _sum(first: _Number | None, second: _Number | None) -> _Number | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


class GpuReader:
    """Reads the GPUs in a thread of its own, which starts with the first reading."""

    def __init__(
        self,
        uuids: Sequence[str],
        *,
        proc: Path = Path("/proc"),
        load: Callable[[], Any] = lambda: importlib.import_module("pynvml"),
        wait_s: float = _WAIT_S,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            uuids: the GPUs and MIG devices that the host offers.
            proc: the process file system.
            load: returns the NVML binding.
            wait_s: how long a reading may take before a round goes on without it.
        """
        self._uuids = tuple(uuids)
        self._proc = proc
        self._load = load
        self._wait_s = wait_s
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[GpuReading | None] = queue.SimpleQueue()
        self._waiting = False
        self._started = False

    def read(self) -> GpuReading | None:
        """Return what the GPUs do now; None if the driver does not say."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name="gpu figures", daemon=True).start()
        late = self._waiting
        if not late:
            self._asked.put(True)
        try:
            answer = self._answers.get(block=not late, timeout=None if late else self._wait_s)
        except queue.Empty:
            if not late:
                _log.warning("the NVIDIA driver does not answer", mend="check `nvidia-smi`")
            self._waiting = True
            return None
        self._waiting = False
        return None if late else answer

    def close(self) -> None:
        """End the thread once the driver lets it."""
        self._asked.put(False)

    def _work(self) -> None:
        devices: _Devices | None = None
        failed_s = float("-inf")
        nvml: Any = None
        while self._asked.get():
            reading = None
            try:
                if devices is None and time.monotonic() - failed_s >= _AGAIN_S:
                    nvml = nvml or self._load()
                    devices = _Devices(nvml, self._uuids, self._proc)
                if devices is not None:
                    reading = devices.read()
            except Exception as error:  # noqa: BLE001 - a failing driver must not stop sampling
                failed_s = time.monotonic()
                if devices is not None:
                    devices.close()
                    devices = None
                _log.warning("GPUs cannot be sampled", cause=str(error), next_try_s=_AGAIN_S)
            self._answers.put(reading)
        if devices is not None:
            devices.close()
