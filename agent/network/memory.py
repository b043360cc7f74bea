"""How much memory the host has left. Blocks on one read of ``/proc``, a few microseconds."""

from __future__ import annotations

from pathlib import Path


def available_memory(path: str = "/proc/meminfo") -> int:
    """Return the memory that programs can still have, in bytes; 0 if it cannot be read."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), "0")
    return int(kib) * 1024
