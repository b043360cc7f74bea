"""Disks of a run of chaos on the kernel's own file systems."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.chaos.faults_state import read_only
from tests.chaos.world import disk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_a_disk_becomes_read_only_although_a_removed_file_is_in_use(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "disk", tmp_path / "hosts"
    elsewhere.touch()
    with disk(place, 1):
        hosts = place / "hosts"
        hosts.write_text("as in a container\n")
        subprocess.run(["mount", "--bind", str(hosts), str(elsewhere)], check=True)
        try:
            hosts.unlink()
            with read_only(place), pytest.raises(OSError, match="Read-only file system"):
                (place / "state").touch()
            (place / "state").touch()
        finally:
            subprocess.run(["umount", str(elsewhere)], check=True)
