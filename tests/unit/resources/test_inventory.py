"""The pure parts of the inventory, and a whole read of a made-up root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from agent.errors import ConfigError
from agent.resources.inventory import (
    architecture_name,
    cgroup_version,
    impairs_networks,
    makes_vlans,
    mounts_nfs,
    os_family,
    read_host,
)
from agent.runtime.protocol import EngineInfo

if TYPE_CHECKING:
    from pathlib import Path

ENGINE = EngineInfo(
    version="20.10.24", api_version="1.41", cgroup_driver="cgroupfs", cgroup_version=1
)


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ('NAME="Debian"\nVERSION_ID="12"\nID=debian\n', "debian_12"),
        ("ID='amzn'\nVERSION_ID='2023'\n", "amzn_2023"),
        ("# ID=no\n  ID=arch\nbroken line\n", "arch"),
        ("", "linux"),
    ],
)
def test_os_family(text: str, family: str) -> None:
    assert os_family(text) == family


def test_architecture_names_are_those_of_ecs() -> None:
    names = [architecture_name(m) for m in ("x86_64", "aarch64", "riscv64")]
    assert names == ["x86_64", "arm64", "riscv64"]


def test_cgroup_version_of_split_hybrid_and_unified_trees(tmp_path: Path) -> None:
    split, hybrid, unified = (tmp_path / name for name in ("split", "hybrid", "unified"))
    (split / "memory").mkdir(parents=True)
    (hybrid / "unified").mkdir(parents=True)
    (hybrid / "unified/cgroup.controllers").touch()
    unified.mkdir()
    (unified / "cgroup.controllers").touch()
    assert [cgroup_version(tree) for tree in (split, hybrid, unified)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("proc/filesystems", "nodev\tsysfs\nnodev\tnfs4\n", True),
        ("proc/filesystems", "nodev\tnfsd\n\text4\n", False),
        (
            "lib/modules/6.1/modules.dep",
            "kernel/fs/nfs/nfsv4.ko.xz: kernel/fs/nfs/nfs.ko.xz\n",
            True,
        ),
        ("lib/modules/6.1/modules.builtin", "kernel/fs/nfs/nfsv4.ko\n", True),
        ("lib/modules/6.1/modules.dep", "kernel/fs/nfs/nfsv3.ko: \n", False),
    ],
)
def test_whether_the_kernel_mounts_nfs(
    tmp_path: Path, path: str, text: str, *, found: bool
) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    assert mounts_nfs(tmp_path, "6.1") is found


def test_what_networks_need_is_looked_for_in_all_places(tmp_path: Path) -> None:
    modules = tmp_path / "lib/modules/6.1"
    modules.mkdir(parents=True)
    assert not impairs_networks(tmp_path, "6.1")
    assert not makes_vlans(tmp_path, "6.1")
    (modules / "modules.dep").write_text(
        "kernel/net/sched/sch_netem.ko.xz:\nkernel/net/8021q/8021q.ko.xz: kernel/net/802/mrp.ko.xz\n"
    )
    (modules / "modules.builtin").write_text("kernel/net/sched/sch_prio.ko\n")
    assert makes_vlans(tmp_path, "6.1")
    assert not impairs_networks(tmp_path, "6.1")
    (tmp_path / "sys/module/nft_hash").mkdir(parents=True)
    assert impairs_networks(tmp_path, "6.1")


async def test_reads_a_host(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123\n")
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_ID=12\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:        4026532 kB\nMemFree:  1000 kB\n")
    host = await read_host(
        reserved_memory_mib=10,
        reserved_tcp=[22],
        reserved_udp=[],
        gpu_enabled=False,
        engine_info=ENGINE,
        root=tmp_path,
    )
    assert (host.machine_id, host.os_family, host.boot_id) == ("0123", "debian_12", "")
    assert host.cpu_units % 1024 == 0
    assert host.memory_mib == 4026532 // 1024 - 10
    assert (host.reserved_tcp, host.engine_version) == (frozenset({22}), "20.10.24")
    assert host.hostname
    assert host.kernel


async def test_a_reserve_that_leaves_nothing_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"ECS_RESERVED_MEMORY=999999999 leaves nothing"):
        await read_host(
            reserved_memory_mib=999_999_999,
            reserved_tcp=[],
            reserved_udp=[],
            gpu_enabled=False,
            engine_info=ENGINE,
        )


async def test_this_host_has_an_identity() -> None:
    host = await read_host(
        reserved_memory_mib=0,
        reserved_tcp=[],
        reserved_udp=[],
        gpu_enabled=True,
        engine_info=ENGINE,
    )
    assert len(host.boot_id) == 36
    assert host.cgroup_version in {1, 2}
    assert host.architecture
    assert host.memory_mib == psutil.virtual_memory().total // (1024 * 1024)
    assert host.cpu_units == (psutil.cpu_count() or 0) * 1024
