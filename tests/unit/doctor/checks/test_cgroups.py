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


@pytest.mark.parametrize("change", [{"bus": False}, {"mounted": False, "place": "/groups"}])
def test_what_keeps_tasks_from_being_limited(change: dict[str, Any]) -> None:
    host = msgspec.structs.replace(V2, **change)
    told = only(cgroups.judge(host, engine()), Level.WARNING)
    assert "tasks cannot be limited as a whole" in told.seen
    assert ("dbus" in told.mend) == ("bus" in change)
    insisting = msgspec.structs.replace(host, task_limits=True)
    assert "does not start" in only(cgroups.judge(insisting, engine()), Level.ERROR).seen
    unwilling = msgspec.structs.replace(host, task_limits=False)
    assert levels(cgroups.judge(unwilling, engine())) == {"ok"}


def test_the_bus_matters_only_where_systemd_makes_the_groups() -> None:
    host = msgspec.structs.replace(V2, bus=False, systemd=False)
    assert levels(cgroups.judge(host, engine(CgroupDriver="cgroupfs"))) == {"ok"}
