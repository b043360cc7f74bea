"""GPU discovery against a binding with knobs: the driver library is not ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agent.model.resources import Gpu
from agent.resources.gpu import GpuReport, read_gpus, survey


class FakeError(Exception):
    def __init__(self, value: int, text: str = "") -> None:
        super().__init__(text)
        self.value = value


class FakeNvml:
    """The functions of ``pynvml`` that we call."""

    NVMLError = FakeError
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NOT_FOUND = 6
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(
        self,
        uuids: list[str | None],
        init: FakeError | None = None,
        mig: dict[int, list[str | None]] | None = None,
    ) -> None:
        """``mig`` has the places of MIG devices of each GPU that is in MIG mode."""
        self.uuids = uuids
        self.mig = mig
        self.count = len(uuids)
        self.init = init
        self.shut_down = 0

    def nvmlInit(self) -> None:  # noqa: N802 - their name
        if self.init:
            raise self.init

    def nvmlShutdown(self) -> None:  # noqa: N802 - their name
        self.shut_down += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - their name
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - their name
        return index

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:  # noqa: N802 - their name
        if self.mig is None:
            raise FakeError(3, "Not Supported")
        return [int(handle in self.mig), 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:  # noqa: N802 - their name
        assert self.mig is not None
        return len(self.mig[handle])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, index: int) -> int:  # noqa: N802
        assert self.mig is not None
        if self.mig[handle][index] is None:
            raise FakeError(6, "Not Found")
        self.uuids.append(self.mig[handle][index])
        return len(self.uuids) - 1

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802 - their name
        uuid = self.uuids[handle]
        if uuid is None:
            raise FakeError(15, "GPU is lost")
        return uuid

    def nvmlDeviceGetName(self, handle: int) -> bytes:  # noqa: N802 - their name
        return f"Tesla {handle}".encode()

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802 - their name
        return SimpleNamespace(total=(handle + 1) << 30)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802 - their name
        return "580.1"


def test_lists_devices_and_leaves_out_a_lost_one() -> None:
    nvml = FakeNvml(["GPU-a", None, "GPU-c"])
    assert survey(nvml) == GpuReport(
        gpus=(
            Gpu(uuid="GPU-a", name="Tesla 0", memory_mib=1024),
            Gpu(uuid="GPU-c", name="Tesla 2", memory_mib=3072),
        ),
        driver_version="580.1",
    )
    assert nvml.shut_down == 1


@pytest.mark.parametrize(
    ("nvml", "trouble"),
    [
        (FakeNvml([], init=FakeError(12, "NVML Shared Library Not Found")), ""),
        (FakeNvml([]), ""),
        (FakeNvml([], init=FakeError(9, "Driver Not Loaded")), "Driver Not Loaded"),
        (FakeNvml([None, None]), "none of the 2 GPUs answers"),
    ],
)
def test_absence_is_ordinary_and_a_broken_driver_is_not(nvml: FakeNvml, trouble: str) -> None:
    report = survey(nvml)
    assert report.gpus == ()
    assert bool(report.trouble) == bool(trouble)
    assert trouble in report.trouble


def test_mig_devices_stand_for_the_gpu_that_they_are_parts_of() -> None:
    nvml = FakeNvml(["GPU-a", "GPU-b"], mig={1: ["MIG-1", None, "MIG-2"]})
    report = survey(nvml)
    assert [gpu.uuid for gpu in report.gpus] == ["GPU-a", "MIG-1", "MIG-2"]
    assert [gpu.is_shareable for gpu in report.gpus] == [True, False, False]


def test_a_gpu_in_mig_mode_without_devices_gives_nothing() -> None:
    report = survey(FakeNvml(["GPU-a", "GPU-b"], mig={0: [None] * 7}))
    assert [gpu.uuid for gpu in report.gpus] == ["GPU-b"]
    alone = survey(FakeNvml(["GPU-a"], mig={0: []}))
    assert "none of the 1 GPUs answers or has a MIG device" in alone.trouble


async def test_a_driver_that_does_not_answer_costs_no_more_than_its_limit() -> None:
    report = await read_gpus(limit_s=0.0)
    assert "did not answer within 0 s" in report.trouble


async def test_asks_the_real_library() -> None:
    report = await read_gpus()
    assert bool(report.gpus) == bool(report.driver_version)
