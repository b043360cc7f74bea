from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.doctor.checks import clock
from tests.support.findings import levels

CLOCK = clock.Clock(now=1.8e9, synchronised=True, drift_s=0.0, looked_s=0.2, services=("chronyd",))


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "ok"),
        ({"synchronised": None}, "warning"),
        ({"synchronised": False}, "warning"),
        ({"synchronised": False, "services": ()}, "warning"),
        ({"now": 0.0}, "error"),
        ({"drift_s": 3600.0}, "warning"),
    ],
)
def test_clocks(changes: dict[str, Any], level: str) -> None:
    assert levels(clock.judge(msgspec.structs.replace(CLOCK, **changes))) == {level}
