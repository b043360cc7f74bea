"""GPUs through a binding that answers as NVML does; none of it needs a GPU."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.metrics.gpu import GpuReader, GpuReading
from agent.model.metrics import GpuSample, GpuUse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ID = "c" * 64
GPU = "GPU-1"
MIG = "MIG-2"


class NvmlFailure(Exception):
    """What a binding raises."""


class Nvml:
    """A whole GPU and a MIG device, which has neither rates nor a temperature of its own."""

    NVMLError = NvmlFailure
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.broken = False
        self.hangs: threading.Event | None = None
        self.starts = 0
        self.samples = [(7, 40, 1000), (7, 60, 2000), (8, 10, 2000), (9, 90, 2000)]

    def __getattr__(self, name: str) -> Any:
        """Return a function of NVML; one that is missing fails as an old driver would."""
        if not name.startswith("nvml"):
            raise AttributeError(name)
        answers = {
            "nvmlInit": self._start,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": self._count,
            "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
            "nvmlDeviceGetName": lambda handle: b"H200" if handle == GPU else "H200 MIG 1g.18gb",
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=500, total=1000),
            "nvmlDeviceGetUtilizationRates": self._of_gpu(SimpleNamespace(gpu=55)),
            "nvmlDeviceGetTemperature": self._of_gpu(41),
            "nvmlDeviceGetPowerUsage": self._of_gpu(123_500),
            "nvmlDeviceGetComputeRunningProcesses": self._of_gpu(
                [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in self._memory()]
            ),
            "nvmlDeviceGetProcessUtilization": self._utilization,
        }
        return answers.get(name, self._missing)

    @staticmethod
    def _memory() -> list[tuple[int, int | None]]:
        return [(7, 100), (8, 50), (9, 1), (10, None)]

    @staticmethod
    def _missing(*_: Any) -> Any:
        raise NvmlFailure("function not found")

    @staticmethod
    def _of_gpu(answer: Any) -> Any:
        def ask(handle: str, *_: Any) -> Any:
            if handle != GPU:
                raise NvmlFailure("not supported")
            return answer

        return ask

    def _start(self) -> None:
        self.starts += 1

    def _count(self) -> int:
        if self.hangs is not None:
            self.hangs.wait()
        if self.broken:
            raise NvmlFailure("driver not loaded")
        return 1

    def _utilization(self, handle: str, since_us: int) -> list[SimpleNamespace]:
        if handle != GPU or not any(stamp > since_us for _, _, stamp in self.samples):
            raise NvmlFailure("not found")
        return [
            SimpleNamespace(pid=pid, smUtil=share, timeStamp=stamp)
            for pid, share, stamp in self.samples
        ]


@pytest.fixture
def nvml() -> Nvml:
    return Nvml()


@pytest.fixture
def reader(nvml: Nvml, tmp_path: Path) -> Iterator[GpuReader]:
    """Processes 7 and 8 are of one container, 9 of the host; 10 is gone."""
    for pid, group in ((7, f"docker/{ID}"), (8, f"docker-{ID}.scope/x"), (9, "user.slice")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"0::/{group}\n")
    made = GpuReader([GPU, MIG], proc=tmp_path, load=lambda: nvml, wait_s=5.0)
    yield made
    made.close()


def read(reader: GpuReader) -> GpuReading:
    reading = reader.read()
    assert reading is not None
    return reading


def test_figures_of_each_gpu(reader: GpuReader, nvml: Nvml) -> None:
    read(reader)
    assert read(reader).gpus == (
        GpuSample(
            uuid=GPU,
            name="H200",
            utilization_percent=55.0,
            memory_used_bytes=500,
            memory_total_bytes=1000,
            temperature_celsius=41.0,
            power_watts=123.5,
        ),
        GpuSample(
            uuid=MIG, name="H200 MIG 1g.18gb", memory_used_bytes=500, memory_total_bytes=1000
        ),
    )
    assert nvml.starts == 1


def test_processes_count_for_their_container(reader: GpuReader, nvml: Nvml) -> None:
    use = GpuUse(uuid=GPU, memory_bytes=150, utilization_percent=60.0)
    assert read(reader).uses == {ID: (use,)}
    quiet = GpuUse(uuid=GPU, memory_bytes=150)
    assert read(reader).uses == {ID: (quiet,)}, "no sample since the last reading"
    nvml.samples.append((8, 30, 3000))
    busy = GpuUse(uuid=GPU, memory_bytes=150, utilization_percent=30.0)
    assert read(reader).uses == {ID: (busy,)}


def test_a_driver_that_fails_is_left_alone_for_a_while(reader: GpuReader, nvml: Nvml) -> None:
    nvml.broken = True
    with capture_logs() as lines:
        assert reader.read() is None
        assert reader.read() is None
    assert [line["cause"] for line in lines] == ["driver not loaded"]
    assert nvml.starts == 1


def test_a_driver_that_hangs_costs_one_wait(tmp_path: Path, nvml: Nvml) -> None:
    nvml.hangs = threading.Event()
    reader = GpuReader([GPU], proc=tmp_path, load=lambda: nvml, wait_s=0.05)
    with capture_logs() as lines:
        assert reader.read() is None
        assert reader.read() is None
        assert reader.read() is None
    assert len(lines) == 1
    nvml.hangs.set()
    while reader.read() is None:
        pass
    reader.close()
