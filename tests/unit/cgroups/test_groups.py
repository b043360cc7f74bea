"""Whether tasks can be limited on a host, and where their groups are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.cgroups.groups import GroupSettings, TaskGroups, why_not
from agent.cgroups.mount import CgroupMount
from agent.cgroups.slices import _agrees
from agent.errors import CgroupFailure, EngineUnavailable
from agent.runtime.protocol import EngineEvent, EngineInfo
from tests.support.tasks import ARN, container, payload

ROOT = Path("/sys/fs/cgroup")
ALL = dict.fromkeys(("cpu", "memory", "pids"), ROOT)
UNIFIED = CgroupMount(ROOT, 2, ALL)
ID = "0123456789abcdef0123456789abcdef"
TASK = f"arn:aws:ecs:us-east-1:123456789012:task/default/{ID}"
OWNER = "feedfacecafe99999999"


def test_the_same_driver_and_version_is_all_that_is_needed() -> None:
    assert why_not(UNIFIED, "cgroupfs", 2) == ""
    assert why_not(UNIFIED, "systemd", 2) == ""


@pytest.mark.parametrize(
    ("mount", "driver", "version", "told"),
    [
        (UNIFIED, "none", 2, "manages no control groups"),
        (UNIFIED, "systemd", 1, "version 1, but those at /sys/fs/cgroup have version 2"),
        (CgroupMount(ROOT, 0, {}), "cgroupfs", 1, "set ECS_CGROUP_PATH"),
        (CgroupMount(ROOT, 2, {"cpu": ROOT}), "systemd", 2, "no cgroup controller memory"),
        (CgroupMount(ROOT, 2, {}), "systemd", 2, "no cgroup controller cpu and memory"),
    ],
)
def test_what_is_in_the_way_is_named(
    mount: CgroupMount, driver: str, version: int, told: str
) -> None:
    assert told in why_not(mount, driver, version)


def test_a_kernel_without_quotas_limits_nothing(tmp_path: Path) -> None:
    v1(tmp_path)
    assert why_not(CgroupMount.find(tmp_path), "cgroupfs", 1) == ""
    (tmp_path / "cpu" / "cpu.cfs_quota_us").unlink()
    assert "CONFIG_CFS_BANDWIDTH" in why_not(CgroupMount.find(tmp_path), "cgroupfs", 1)


def v1(root: Path) -> Path:
    for controller in ("cpu", "memory", "pids", "systemd"):
        (root / controller).mkdir()
        (root / controller / "cgroup.procs").touch()
    (root / "cpu" / "cpu.cfs_quota_us").touch()
    (root / "not-a-hierarchy").mkdir()
    return root


def test_hierarchies_are_found_with_those_that_share_one(tmp_path: Path) -> None:
    v1(tmp_path)
    (tmp_path / "cpuacct").symlink_to("cpu")
    found = CgroupMount.find(tmp_path)
    assert found.version == 1
    assert set(found.hierarchies) == {"cpu", "cpuacct", "memory", "pids", "systemd"}
    assert len(found.tops()) == 4
    assert CgroupMount.find(tmp_path / "nothing").version == 0


async def opened(root: Path, *, enabled: bool = True, driver: str = "cgroupfs") -> TaskGroups:
    settings = GroupSettings(owner=OWNER, root=root, enabled=enabled)
    return await TaskGroups.open(settings, engine_driver=driver, engine_version=1)


async def test_a_host_that_cannot_limit_says_why_and_makes_nothing(tmp_path: Path) -> None:
    groups = await opened(tmp_path)
    assert "no control groups" in groups.problem
    assert not groups.limiting
    assert groups.path_of(TASK) == ""
    with pytest.raises(CgroupFailure, match="no control groups"):
        await groups.ensure(payload(container("a"), arn=TASK))
    await groups.remove(TASK)
    await groups.reconcile([])
    await groups.close()


async def test_what_nobody_wants_is_no_problem(tmp_path: Path) -> None:
    groups = await opened(v1(tmp_path), enabled=False)
    assert (groups.problem, groups.limiting) == ("", False)
    assert not (tmp_path / "cpu" / "ecs").exists()
    await groups.close()


async def test_a_mount_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (v1(tmp_path) / "cpu" / "ecs").touch()
    groups = await opened(tmp_path)
    assert "control groups cannot be changed" in groups.problem
    assert not groups.limiting
    await groups.close()


async def test_a_group_is_named_after_agent_and_task(tmp_path: Path) -> None:
    groups = await opened(v1(tmp_path))
    assert groups.path_of(TASK) == f"ecs/feedfacecafe/{ID}"
    assert groups.path_of(ARN) != groups.path_of(f"{ARN}x")
    await groups.close()
    slices = await opened(tmp_path, enabled=False, driver="systemd")
    unit = f"ecstasks-feedfacecafe-{ID}.slice"
    assert slices.path_of(TASK) == f"ecstasks.slice/ecstasks-feedfacecafe.slice/{unit}"
    await slices.close()


@pytest.mark.parametrize(
    ("found", "wanted", "agrees"),
    [
        ("max 100000", "max 50000", True),
        ("12500 100000", "12500 100000", True),
        ("2500 20000", "12500 100000", True),
        ("10000 100000", "12500 100000", False),
        ("max", "5242880", False),
        ("5242880", "5242880", True),
        ("5242880", "max", False),
        ("9223372036854771712", "-1", True),
        ("-1", "12500", False),
    ],
)
def test_what_systemd_made_is_compared(
    tmp_path: Path, found: str, wanted: str, agrees: bool
) -> None:
    (tmp_path / "limit").write_text(f"{found}\n")
    assert _agrees(tmp_path / "limit", wanted) is agrees
    assert not _agrees(tmp_path / "absent", wanted)


async def test_an_engine_that_has_another_driver_is_followed(tmp_path: Path) -> None:
    groups = await opened(v1(tmp_path))
    seen = []
    for driver in ("none", "cgroupfs"):
        await groups.follow(driver, 1)
        seen.append((groups.problem != "", groups.limiting))
    assert seen == [(True, False), (False, True)]
    await groups.close()


async def test_the_engine_is_asked_when_it_is_back(tmp_path: Path) -> None:
    groups = await opened(v1(tmp_path))
    rootless = EngineInfo(version="1", api_version="1", cgroup_driver="none", cgroup_version=1)
    answers: list[EngineInfo | EngineUnavailable] = [EngineUnavailable("away"), rootless, rootless]
    asked: asyncio.Queue[None] = asyncio.Queue()

    async def ask() -> EngineInfo:
        asked.put_nowait(None)
        answer = answers.pop(0)
        if isinstance(answer, EngineUnavailable):
            raise answer
        return answer

    following = asyncio.create_task(groups.run(ask))
    groups.take_note_of(EngineEvent(action="start"))
    async with asyncio.timeout(5):
        # The third question comes after the second answer was taken in.
        for _ in range(3):
            groups.take_note_of(EngineEvent(action="relist"))
            await asked.get()
    assert "manages no control groups" in groups.problem
    following.cancel()
    await groups.close()
