"""Whose state this is: only a host that was down can have become another one."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AwsUnavailable, StateFailure
from agent.state import Batch, StateStore
from agent.upstream.amazon import identity
from agent.upstream.amazon.identity import HostIdentity, difference
from tests.support.ecs_calls import ScriptedMetadata

if TYPE_CHECKING:
    from pathlib import Path

UUID = "ec2f0b10-1234-5678-9abc-def012345678"
SWAPPED = "100b2fec-3412-7856-9abc-def012345678"
OTHER = "00c0ffee-1234-5678-9abc-def012345678"

WORDS = st.sampled_from(["", "a", "b"])
HOSTS = st.builds(
    HostIdentity,
    boot_id=WORDS,
    machine_id=WORDS,
    product_uuid=st.sampled_from(["", UUID, SWAPPED, OTHER]),
    ec2_instance_id=st.sampled_from(["", "i-0123456789abcdef0", "i-0fedcba9876543210"]),
)


@given(saved=HOSTS, now=HOSTS)
def test_within_one_boot_state_is_never_doubted(saved: HostIdentity, now: HostIdentity) -> None:
    if saved.boot_id and saved.boot_id == now.boot_id:
        assert difference(saved, now) == ""


@given(host=HOSTS, boot=WORDS)
def test_a_host_is_itself_after_a_reboot(host: HostIdentity, boot: str) -> None:
    later = HostIdentity(
        boot_id=boot,
        machine_id=host.machine_id,
        product_uuid=host.product_uuid,
        ec2_instance_id=host.ec2_instance_id,
    )
    assert difference(host, later) == ""


@given(saved=HOSTS, now=HOSTS)
def test_nothing_is_concluded_from_what_is_not_known(
    saved: HostIdentity, now: HostIdentity
) -> None:
    nothing = HostIdentity(boot_id=now.boot_id)
    assert difference(saved, nothing) == ""
    assert difference(HostIdentity(boot_id=saved.boot_id), now) == ""


@given(saved=HOSTS, now=HOSTS)
def test_the_judgement_is_the_same_in_both_directions(
    saved: HostIdentity, now: HostIdentity
) -> None:
    assert bool(difference(saved, now)) == bool(difference(now, saved))


@given(saved=HOSTS, now=HOSTS)
def test_where_the_ec2_instance_is_known_it_decides(saved: HostIdentity, now: HostIdentity) -> None:
    if saved.ec2_instance_id and now.ec2_instance_id and saved.boot_id != now.boot_id:
        other = saved.ec2_instance_id != now.ec2_instance_id
        assert bool(difference(saved, now)) == other


@pytest.mark.parametrize(
    ("saved", "now", "because"),
    [
        (HostIdentity(), HostIdentity(boot_id="b", machine_id="m"), ""),
        (
            HostIdentity(ec2_instance_id="i-11111111"),
            HostIdentity(ec2_instance_id="i-22222222"),
            "i-11111111",
        ),
        (
            HostIdentity(boot_id="1", product_uuid=UUID, machine_id="m"),
            HostIdentity(boot_id="2", product_uuid=OTHER, machine_id="m"),
            "firmware",
        ),
        (  # installed anew, on the same machine
            HostIdentity(boot_id="1", product_uuid=UUID, machine_id="m"),
            HostIdentity(boot_id="2", product_uuid=UUID, machine_id="n"),
            "",
        ),
        (  # another firmware, which writes the number in the other byte order
            HostIdentity(boot_id="1", product_uuid=UUID),
            HostIdentity(boot_id="2", product_uuid=SWAPPED),
            "",
        ),
        (
            HostIdentity(boot_id="1", machine_id="m"),
            HostIdentity(boot_id="2", machine_id="n", product_uuid=UUID),
            "/etc/machine-id",
        ),
        (  # metadata is away: the machine alone decides
            HostIdentity(boot_id="1", machine_id="m", ec2_instance_id="i-11111111"),
            HostIdentity(boot_id="2", machine_id="m"),
            "",
        ),
    ],
)
def test_cases(saved: HostIdentity, now: HostIdentity, because: str) -> None:
    why = difference(saved, now)
    assert because in why
    assert bool(why) == bool(because)


async def test_what_is_remembered_decides_after_a_reboot(store: StateStore) -> None:
    here = HostIdentity(boot_id="1", machine_id="m", product_uuid=UUID)
    assert await identity.verdict(store, here) == ""
    await identity.remember(store, here)
    await identity.remember(store, here)
    assert await identity.verdict(store, here) == ""
    clone = HostIdentity(boot_id="2", machine_id="m", product_uuid=OTHER)
    assert UUID in await identity.verdict(store, clone)


async def test_what_is_unknown_now_stays_remembered(store: StateStore) -> None:
    known = HostIdentity(boot_id="1", machine_id="m", ec2_instance_id="i-11111111")
    await identity.remember(store, known)
    await identity.remember(store, HostIdentity(boot_id="2", machine_id="m"))
    other = HostIdentity(boot_id="3", machine_id="m", ec2_instance_id="i-22222222")
    assert "i-11111111" in await identity.verdict(store, other)


async def test_a_full_disk_does_not_stop_the_start(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(batch: Batch) -> asyncio.Future[None]:
        del batch
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(StateFailure("disk full"))
        return future

    monkeypatch.setattr(store, "commit", commit)
    await identity.remember(store, HostIdentity(boot_id="1"))
    assert await store.get_meta(identity.BOOT) is None


async def test_the_former_owner_has_a_name(store: StateStore) -> None:
    assert await identity.owner_name(store) == "another-host"
    batch = Batch()
    batch.put_meta(identity.INSTANCE, "arn:aws:ecs:r:1:container-instance/c/0a1b../\n")
    await store.commit(batch)
    assert await identity.owner_name(store) == "another-host"
    batch.put_meta(identity.INSTANCE, "arn:aws:ecs:r:1:container-instance/c/0a1b..\n")
    await store.commit(batch)
    assert await identity.owner_name(store) == "0a1b"
    await identity.remember(store, HostIdentity(ec2_instance_id="i-11111111"))
    assert await identity.owner_name(store) == "i-11111111"


async def test_state_put_aside_is_whole_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    names = []
    for boot in ("1", "2", "3"):
        store = await StateStore.open(path)
        await identity.remember(store, HostIdentity(boot_id=boot))
        await store.close()
        names.append(await asyncio.to_thread(identity.put_aside, path, "of-i-1"))
        assert not path.exists()
    assert [name.name for name in names] == [
        "agent.db.of-i-1",
        "agent.db.of-i-1.2",
        "agent.db.of-i-1.3",
    ]
    for name, boot in zip(names, ("1", "2", "3"), strict=True):
        row = sqlite3.connect(name).execute("SELECT value FROM meta WHERE key = 'ecs.bootId'")
        assert row.fetchone() == (boot,)
        row.connection.close()


def test_journals_go_along(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    for ending in ("", "-wal", "-shm"):
        (tmp_path / f"agent.db{ending}").write_text(ending)
    (tmp_path / "agent.db.of-x-wal").write_text("of an attempt that was cut off")
    assert identity.put_aside(path, "of-x").name == "agent.db.of-x.2"
    assert (tmp_path / "agent.db.of-x.2-wal").read_text() == "-wal"
    assert (tmp_path / "agent.db.of-x.2-shm").read_text() == "-shm"
    assert sorted(p.name for p in tmp_path.glob("agent.db*-wal")) == [
        "agent.db.of-x-wal",
        "agent.db.of-x.2-wal",
    ]


def test_a_file_that_cannot_be_moved_is_said(tmp_path: Path) -> None:
    with pytest.raises(StateFailure, match="move it away"):
        identity.put_aside(tmp_path / "agent.db", "of-x")


def _host(root: Path, **files: str) -> Path:
    paths = {
        "boot": "proc/sys/kernel/random/boot_id",
        "machine": "etc/machine-id",
        "product": "sys/class/dmi/id/product_uuid",
    }
    for name, text in files.items():
        file = root / paths[name]
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return root


async def test_reading_the_host(tmp_path: Path) -> None:
    root = _host(tmp_path, boot="b-1\n", machine="m-1\n", product=UUID.upper() + "\n")
    imds = ScriptedMetadata(
        {"meta-data/instance-id": [AwsUnavailable("slow"), "i-0123456789abcdef0"]}
    )
    assert await identity.read_host_identity(imds, root=root) == HostIdentity(
        boot_id="b-1",
        machine_id="m-1",
        product_uuid=UUID,
        ec2_instance_id="i-0123456789abcdef0",
    )


@pytest.mark.parametrize(
    "product",
    [
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
        "Not Settable",
        "\xff" * 36,
    ],
)
async def test_numbers_that_many_machines_share_say_nothing(tmp_path: Path, product: str) -> None:
    found = await identity.read_host_identity(None, root=_host(tmp_path, product=product))
    assert found == HostIdentity()


@pytest.mark.parametrize("told", [AwsUnavailable("away"), None, "<html>", "i-" + "0" * 99])
async def test_metadata_that_does_not_tell_decides_nothing(
    tmp_path: Path, told: str | Exception | None
) -> None:
    imds = ScriptedMetadata({"meta-data/instance-id": told})
    assert await identity.read_host_identity(imds, root=tmp_path) == HostIdentity()


async def test_metadata_that_is_switched_off_is_not_asked(tmp_path: Path) -> None:
    imds = ScriptedMetadata(enabled=False)
    await identity.read_host_identity(imds, root=tmp_path)
    assert imds.asked == []
