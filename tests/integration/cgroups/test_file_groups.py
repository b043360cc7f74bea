"""Task groups on the kernel's own control groups, for an engine with the driver cgroupfs."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from agent.cgroups.groups import GroupSettings, TaskGroups
from agent.cgroups.mount import CgroupMount
from agent.errors import CgroupFailure
from tests.support.tasks import container, payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model.payload import TaskPayload

pytestmark = pytest.mark.integration
ROOT = Path("/sys/fs/cgroup")
MIB = 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def version_1() -> None:
    if CgroupMount.find(ROOT).version != 1:
        pytest.skip("for hosts with cgroup version 1; tests/vm has the others")


@pytest.fixture
def owner() -> Iterator[str]:
    name = uuid4().hex[:12]
    yield name
    left = list(ROOT.glob(f"*/ecs/{name}"))
    for group in left:
        subprocess.run(
            ["find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], check=True
        )
    assert not left


async def opened(owner: str, **changes: int) -> TaskGroups:
    settings = GroupSettings(owner=owner, root=ROOT, **changes)  # type: ignore[arg-type]
    return await TaskGroups.open(settings, engine_driver="cgroupfs", engine_version=1)


def task(**sizes: float) -> TaskPayload:
    return payload(container("a", cpu=100), arn=f"task/{uuid4().hex}", **sizes)


def limit_of(groups: TaskGroups, arn: str, file: str) -> str:
    controller = file.partition(".")[0]
    return (ROOT / controller / groups.path_of(arn) / file).read_text().strip()


async def test_a_group_has_its_limits_and_goes_without_a_trace(owner: str) -> None:
    groups = await opened(owner, pids=50)
    assert groups.limiting
    one, other = task(cpu=0.125, memory=64), task()

    assert await groups.ensure(one) == f"/{groups.path_of(one.arn)}"
    await groups.ensure(other)

    assert limit_of(groups, one.arn, "cpu.cfs_quota_us") == "12500"
    assert limit_of(groups, one.arn, "cpu.cfs_period_us") == "100000"
    assert limit_of(groups, one.arn, "memory.limit_in_bytes") == str(64 * MIB)
    assert limit_of(groups, one.arn, "pids.max") == "50"
    assert limit_of(groups, other.arn, "cpu.shares") == "100"
    assert limit_of(groups, other.arn, "cpu.cfs_quota_us") == "-1"
    for each in (one, other):
        await groups.remove(each.arn)
        await groups.remove(each.arn)
    await groups.close()


async def test_limits_are_given_to_a_group_that_exists(owner: str) -> None:
    before = await opened(owner, period_us=10_000, pids=9)
    one = task(cpu=0.5, memory=64)
    await before.ensure(one)
    # As after a crash, with other settings.
    after = await opened(owner)
    await after.ensure(one)
    assert limit_of(after, one.arn, "cpu.cfs_period_us") == "100000"
    assert limit_of(after, one.arn, "cpu.cfs_quota_us") == "50000"
    assert limit_of(after, one.arn, "pids.max") == "max"
    await after.remove(one.arn)
    await before.close()
    await after.close()


@pytest.mark.parametrize("vcpus", [0.001, 0.01, 0.05, 3.5, 192])
@pytest.mark.parametrize("period_us", [8_000, 100_000])
async def test_the_kernel_takes_every_size(owner: str, vcpus: float, period_us: int) -> None:
    groups = await opened(owner, period_us=period_us)
    one = task(cpu=vcpus, memory=4)
    await groups.ensure(one)
    quota, period = (
        int(limit_of(groups, one.arn, f"cpu.cfs_{word}_us")) for word in ("quota", "period")
    )
    assert quota / period == pytest.approx(vcpus, rel=0.01)
    await groups.remove(one.arn)
    await groups.close()


async def test_groups_of_tasks_that_are_gone_are_removed_and_those_of_others_stay(
    owner: str,
) -> None:
    before = await opened(owner)
    gone, kept = task(), task()
    await before.ensure(gone)
    await before.ensure(kept)
    (ROOT / "freezer" / before.path_of(gone.arn) / "container").mkdir(parents=True)
    stranger = await opened(uuid4().hex)
    others = task()
    await stranger.ensure(others)

    after = await opened(owner)
    fresh = task()
    await after.ensure(fresh)
    await after.reconcile([kept.arn])

    assert not list(ROOT.glob(f"*/{before.path_of(gone.arn)}"))
    for groups, one in ((after, kept), (after, fresh), (stranger, others)):
        assert (ROOT / "memory" / groups.path_of(one.arn)).is_dir()
        await groups.remove(one.arn)
    for groups in (before, stranger, after):
        await groups.close()


async def test_a_group_with_processes_is_not_removed_while_its_containers_may_run(
    owner: str,
) -> None:
    before = await opened(owner)
    one = task()
    await before.ensure(one)
    group = ROOT / "memory" / before.path_of(one.arn)
    groups = await opened(owner)
    sleeper = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        (group / "cgroup.procs").write_text(str(sleeper.pid))
        await groups.reconcile([])
        assert group.is_dir()
        assert sleeper.returncode is None
    finally:
        sleeper.kill()
        await sleeper.wait()
    await groups.reconcile([])
    assert not group.exists()
    for each in (before, groups):
        await each.close()


async def test_what_is_left_of_removed_containers_is_killed(owner: str) -> None:
    """An engine that dies in the middle of a start forgets what was to become the container."""
    groups = await opened(owner)
    one, other = task(), task()
    sleepers = []
    for each in (one, other):
        await groups.ensure(each)
        below = ROOT / "memory" / groups.path_of(each.arn) / "container"
        below.mkdir()
        sleepers.append(await asyncio.create_subprocess_exec("sleep", "60"))
        (below / "cgroup.procs").write_text(str(sleepers[-1].pid))
    try:
        with pytest.raises(CgroupFailure, match="still has processes"):
            await groups.remove(one.arn)
        async with asyncio.timeout(30):
            assert await sleepers[0].wait() == -signal.SIGKILL
        await groups.remove(one.arn)
        assert not (ROOT / "memory" / groups.path_of(one.arn)).exists()
        assert sleepers[1].returncode is None
    finally:
        sleepers[1].kill()
        await sleepers[1].wait()
    await groups.remove(other.arn)
    await groups.close()


async def test_what_somebody_removed_is_made_again(owner: str) -> None:
    groups = await opened(owner)
    for base in ROOT.glob(f"*/ecs/{owner}"):
        base.rmdir()
    one = task(cpu=1.0)
    await groups.ensure(one)
    assert limit_of(groups, one.arn, "cpu.cfs_quota_us") == "100000"
    await groups.remove(one.arn)
    await groups.close()
