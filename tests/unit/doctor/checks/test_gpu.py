from __future__ import annotations

import pytest

from agent.doctor.checks import gpu
from agent.doctor.host import EngineFacts
from agent.model.resources import Gpu
from agent.resources.gpu import GpuReport
from tests.support.findings import engine, levels

CARD = GpuReport(gpus=(Gpu(uuid="GPU-1", name="T4", memory_mib=1),), driver_version="550.1")


@pytest.mark.parametrize(
    ("found", "wanted", "level"),
    [
        (gpu.Gpus(), None, "ok"),
        (gpu.Gpus(), True, "error"),
        (gpu.Gpus(hardware=None), None, "warning"),
        (gpu.Gpus(hardware=1), None, "warning"),
        (gpu.Gpus(hardware=1), False, "ok"),
        (gpu.Gpus(hardware=1, driver=GpuReport(trouble="version mismatch")), None, "error"),
        (gpu.Gpus(driver=CARD), None, "error"),
        (gpu.Gpus(driver=CARD, hook=True), None, "ok"),
    ],
)
def test_gpus(found: gpu.Gpus, wanted: bool | None, level: str) -> None:
    assert levels(gpu.judge(found, wanted=wanted, engine=EngineFacts())) == {level}


def test_a_runtime_that_the_settings_name_must_be_there() -> None:
    card = gpu.Gpus(driver=CARD, hook=True)
    for names, level in (((), "error"), (("nvidia",), "ok")):
        facts = engine(Runtimes={name: {} for name in names})
        assert levels(gpu.judge(card, wanted=None, engine=facts, runtime="nvidia")) == {level}


def test_the_runtime_of_nvidia_is_as_good_as_its_hook() -> None:
    facts = engine(Runtimes={"nvidia": {}})
    assert levels(gpu.judge(gpu.Gpus(driver=CARD), wanted=None, engine=facts)) == {"ok"}
