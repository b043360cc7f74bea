"""Taking a Unix socket over from the dead, and only from them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from agent.endpoints import unix_socket
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_replaces_the_socket_of_a_dead_process(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    before = unix_socket.identity(path)
    with unix_socket.claim(path):
        assert unix_socket.identity(path) != (0, 0)
    assert before != (0, 0)


def test_refuses_the_socket_of_a_live_process(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with unix_socket.claim(path) as live:
        live.listen()
        with pytest.raises(ConfigError, match="another agent answers on"):
            unix_socket.claim(path)
        assert path.exists()


def test_refuses_to_remove_what_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is not a socket; move it"):
        unix_socket.claim(path)
    assert path.read_text() == "mine"


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot create"):
        unix_socket.claim(tmp_path / "file/a.sock")


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with unix_socket.claim(tmp_path / "a.sock"):
        assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_release_leaves_the_socket_of_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    unix_socket.claim(path).close()
    mine = unix_socket.identity(path)
    kept = path.rename(tmp_path / "old.sock")
    unix_socket.claim(path).close()
    unix_socket.release(path, mine)
    assert path.exists()
    assert kept.exists()
