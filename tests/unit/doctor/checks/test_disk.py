from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.doctor.checks import disk
from tests.support.findings import levels

GIB = 1024**3

STATE = disk.Place(
    what="the agent's state",
    path="/var/lib/ecs/data",
    exists=True,
    mode=0o700,
    size=100 * GIB,
    free=50 * GIB,
    inodes=1000_000,
    inodes_free=900_000,
    kind="ext4",
    need=GIB // 20,
    comfort=GIB,
)


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "ok"),
        ({"exists": False}, "ok"),
        ({"free": GIB // 2}, "warning"),
        ({"free": GIB // 2, "size": GIB * 3 // 4}, "ok"),
        ({"free": GIB // 50}, "error"),
        ({"inodes_free": 10_000}, "warning"),
        ({"inodes_free": 10}, "error"),
        ({"inodes": 0, "inodes_free": 0}, "ok"),
        ({"read_only": True}, "error"),
        ({"kind": "nfs4"}, "error"),
        ({"kind": "tmpfs"}, "warning"),
        ({"owner": 1000}, "error"),
        ({"mode": 0o755}, "warning"),
        ({"trouble": "Input/output error"}, "error"),
    ],
)
def test_room_for_the_state(changes: dict[str, Any], level: str) -> None:
    assert levels(disk.judge(msgspec.structs.replace(STATE, **changes))) == {level}


def test_the_file_system_of_a_path_is_that_of_the_nearest_mount() -> None:
    mounts = (
        "21 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "30 21 0:5 / /var rw shared:1 - xfs /dev/vdb rw\n"
        "31 30 0:6 / /var/my\\040data rw - nfs4 server:/x rw\n"
    )
    assert disk.file_system_of(Path("/var/lib"), mounts) == "xfs"
    assert disk.file_system_of(Path("/variety"), mounts) == "ext4"
    assert disk.file_system_of(Path("/var/my data/x"), mounts) == "nfs4"
    assert disk.file_system_of(Path("/x"), "") == ""


def test_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    place = disk.look_at(tmp_path / "a" / "b", "the agent's state", "", 1, 1)
    assert not place.exists
    assert place.size
