from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.definition.sizes import InvalidSize, cpu_units, memory_mib


@pytest.mark.parametrize(
    ("text", "units"),
    [
        *(("1024", 1024), ("1 vCPU", 1024), (".5 vcpu", 512), ("0.25vCPU", 256)),
        *(("192 vCPU", 196608), ("128", 128), ("", 0)),
    ],
)
def test_task_cpu(text: str, units: int) -> None:
    assert cpu_units(text) == units


@pytest.mark.parametrize(
    "text",
    [
        *("0", "64", "127", "one", "-1", "1.5", "1 cpu", "193 vCPU", "٥١٢", "1e3", "1 vCPU x"),
        *("2 vCPUs", " ", "vcpu", ". vcpu"),
    ],
)
def test_task_cpu_out_of_form_or_range(text: str) -> None:
    with pytest.raises(InvalidSize, match="Invalid 'cpu' setting for task"):
        cpu_units(text)


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        *(("512", 512), ("1GB", 1024), ("0.5 gb", 512), (".5gb", 512), ("4", 4)),
        *(("30 GB", 30720), ("", 0)),
    ],
)
def test_task_memory(text: str, mib: int) -> None:
    assert memory_mib(text) == mib


@pytest.mark.parametrize(
    "text", ["2", "3", "0", "1.5", "1 MB", "x", "-4", "1 GiB", "999999999 GB", " ", "gb"]
)
def test_task_memory_out_of_form_or_range(text: str) -> None:
    with pytest.raises(InvalidSize, match="Invalid 'memory' setting for task"):
        memory_mib(text)


@given(st.text(max_size=20))
def test_sizes_are_read_or_refused(text: str) -> None:
    for read in (cpu_units, memory_mib):
        with contextlib.suppress(InvalidSize):
            assert read(text) > 0 or text == ""
