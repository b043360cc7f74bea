"""Files that are mounted into single containers, and the hosts file of one without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import StateFailure
from agent.network.names.hosts_files import HostsFiles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> HostsFiles:
    return HostsFiles(tmp_path / "data/hosts")


async def test_a_container_without_a_network_knows_its_own_loopback(files: HostsFiles) -> None:
    path = await files.write("abc")
    assert path.read_text().splitlines()[:2] == [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
    ]
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_what_a_container_wrote_into_its_file_stays(files: HostsFiles) -> None:
    path = await files.write("abc")
    path.write_text("127.0.0.1 db")
    assert await files.write("abc") == path
    assert path.read_text() == "127.0.0.1 db"


async def test_removal_may_be_repeated(files: HostsFiles) -> None:
    await files.remove("abc")
    path = await files.write("abc")
    await files.remove("abc")
    await files.remove("abc")
    assert not path.exists()


async def test_what_the_engine_made_in_place_of_a_lost_file_is_no_file(files: HostsFiles) -> None:
    """It makes a directory for a mount that has no source."""
    path = await files.write("abc")
    path.unlink()
    path.mkdir()
    assert (await files.write("abc")).is_file()
    path.unlink()
    path.mkdir()
    await files.keep_only([])
    assert not path.exists()
    path.mkdir()
    await files.remove("abc")
    assert not path.exists()


async def test_files_of_containers_that_nobody_knows_go(files: HostsFiles) -> None:
    await files.keep_only([])
    kept, gone = [await files.write(name) for name in ("kept", "gone")]
    await files.keep_only(["kept", "other"])
    assert kept.exists()
    assert not gone.exists()


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files = HostsFiles(tmp_path / "file/hosts")
    with pytest.raises(StateFailure, match="abc cannot be written: Not a directory"):
        await files.write("abc")
