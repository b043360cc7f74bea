from __future__ import annotations

from agent.doctor.checks import pause
from tests.support.findings import levels


def test_the_pause_image() -> None:
    assert levels(pause.judge("x86_64", "p:1", loaded=True)) == {"ok"}
    assert levels(pause.judge("x86_64", "p:1", loaded=False)) == {"ok"}
    assert levels(pause.judge("x86_64", "p:1", loaded=None)) == {"warning"}
    assert levels(pause.judge("riscv64", "", loaded=None, unsupported="none")) == {"error"}
