from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.doctor.checks import cgroups
from agent.doctor.findings import Level
from agent.doctor.host import EngineFacts
from tests.support.findings import engine, levels, only

V2 = cgroups.Cgroups(
    version=2, controllers=frozenset({"cpu", "memory", "pids"}), systemd=True, swap_kib=1024
)


def test_cgroups_that_fit() -> None:
    assert levels(cgroups.judge(V2, engine())) == {"ok"}
    assert levels(cgroups.judge(V2, EngineFacts(trouble="away"))) == {"ok"}


@pytest.mark.parametrize(
    ("info", "level", "word"),
    [
        ({"CgroupDriver": "cgroupfs"}, "warning", "native.cgroupdriver=systemd"),
        ({"CgroupDriver": "none"}, "error", "as root"),
        ({"CgroupVersion": "1"}, "error", "restart"),
        ({"MemoryLimit": False}, "error", "cgroup_enable=memory"),
        ({"SwapLimit": False}, "warning", "swapoff"),
        ({"PidsLimit": False}, "warning", ""),
        ({"CpuCfsQuota": False}, "warning", ""),
    ],
)
def test_an_engine_that_does_not_fit(info: dict[str, Any], level: str, word: str) -> None:
    finding = only(cgroups.judge(V2, engine(**info)), Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_swap_does_not_matter_where_there_is_none() -> None:
    bare = msgspec.structs.replace(V2, swap_kib=0)
    assert levels(cgroups.judge(bare, engine(SwapLimit=False))) == {"ok"}


def test_a_list_that_cannot_be_read_says_nothing_about_limits() -> None:
    blank = msgspec.structs.replace(V2, controllers=frozenset())
    assert levels(cgroups.judge(blank, engine())) == {"warning"}


def test_controllers_that_are_off() -> None:
    table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t1\t0\n"
    found = cgroups.Cgroups(version=1, controllers=cgroups.enabled_controllers(table))
    assert found.controllers == {"cpu"}
    findings = cgroups.judge(found, EngineFacts(trouble="away"))
    assert "memory controller is off" in only(findings, Level.ERROR).seen
    assert cgroups.swap_kib("MemTotal: 1 kB\nSwapTotal:   2048 kB\n") == 2048
