"""What this process uses."""

from __future__ import annotations

from agent import process


def test_figures_of_this_process() -> None:
    use = process.read()
    assert use.cpu_s > 0
    assert use.resident_bytes is not None
    assert use.resident_bytes > 1_000_000
    assert use.open_files is not None
    assert use.open_files >= 3
    names = {family.name for family in process.families(use, 12.5)}
    assert {"process_cpu_seconds_total", "process_start_time_seconds"} <= names
