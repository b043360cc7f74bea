"""The memory that the host has left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.network.memory import available_memory

if TYPE_CHECKING:
    from pathlib import Path


def test_the_available_memory_is_read(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")

    assert available_memory(str(file)) == 2 << 20
    assert available_memory(str(tmp_path / "missing")) == 0
    assert available_memory() > 0
