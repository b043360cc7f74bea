"""The resolv.conf of a container that joins a sandbox and asks for name servers of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import NetworkFailure
from agent.network.names.resolv_files import ResolvFiles
from agent.network.names.resolvers import Resolvers

if TYPE_CHECKING:
    from pathlib import Path

OWN = Resolvers(servers=("192.0.2.9",))


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A process whose resolv.conf is a sandbox's."""
    etc = tmp_path / "proc/7/root/etc"
    etc.mkdir(parents=True)
    (etc / "resolv.conf").write_text("nameserver 192.0.2.1\nsearch host.example\n")
    return tmp_path / "proc"


async def test_what_is_not_asked_for_is_the_sandboxs(tmp_path: Path, proc: Path) -> None:
    files = ResolvFiles(tmp_path / "data/resolv", proc=proc)
    path = await files.write("abc", OWN, sandbox_pid=7)
    assert path == tmp_path / "data/resolv/abc"
    assert path.read_text() == "nameserver 192.0.2.9\nsearch host.example\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await files.write("abc", Resolvers(search=("own.example",)), sandbox_pid=7)
    assert path.read_text() == "nameserver 192.0.2.1\nsearch own.example\n"


async def test_a_sandbox_that_has_died_is_named(tmp_path: Path, proc: Path) -> None:
    with pytest.raises(NetworkFailure, match="name servers of the task's sandbox"):
        await ResolvFiles(tmp_path / "resolv", proc=proc).write("abc", OWN, sandbox_pid=8)
