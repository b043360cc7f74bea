"""The GPUs that the containers of a definition want."""

from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.definition import gpus
from agent.controlplane.definition.gpus import GpuNeeds, GpuShareNeeds
from agent.controlplane.definition.overrides import OverrideError


def body(**containers: Any) -> dict[str, Any]:
    return {
        "containerDefinitions": [
            {"name": name, "resourceRequirements": [{"type": "GPU", **asked}] if asked else []}
            for name, asked in containers.items()
        ]
    }


def mps(memory: int, **more: int) -> dict[str, Any]:
    return {"sharingStrategy": {"nvidiaMps": {"memory": memory, **more}}}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (body(a=None), GpuNeeds()),
        (body(a={"value": "2"}, b=None, c={"value": "1"}), GpuNeeds(counts={"a": 2, "c": 1})),
        (body(a={"value": "ALL"}, b=None), GpuNeeds(all_for="a")),
        (
            body(a=mps(1024, maxComputePercent=40), b=mps(512)),
            GpuNeeds(
                shares={
                    "a": GpuShareNeeds(memory_mib=1024, compute_percent=40),
                    "b": GpuShareNeeds(memory_mib=512),
                }
            ),
        ),
    ],
)
def test_numbers_all_and_shares(asked: dict[str, Any], wanted: GpuNeeds) -> None:
    assert gpus.of(asked) == wanted


@pytest.mark.parametrize(
    "asked",
    [
        body(a={"value": "1"}, b=mps(1)),
        body(a={"value": "ALL"}, b={"value": "1"}),
        body(a={"value": "ALL"}, b={"value": "ALL"}),
        body(a={"value": "ALL"}, b=mps(1)),
    ],
)
def test_one_task_uses_one_option(asked: dict[str, Any]) -> None:
    with pytest.raises(OverrideError, match="must all use the same option"):
        gpus.of(asked)


@pytest.mark.parametrize("value", ["", "all", "-1", "1.5", "1000", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_what_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(OverrideError, match="Invalid GPU count"):
        gpus.of(body(a={"value": value}))
