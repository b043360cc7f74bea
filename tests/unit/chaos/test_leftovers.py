"""What is left over is all found, and what an engine forgot is told apart from it."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.chaos import leftovers

if TYPE_CHECKING:
    from pathlib import Path

_WAITS = "import sys; sys.stdin.read()"


def test_both_proxies_of_a_port_are_found(tmp_path: Path) -> None:
    """The engine starts one for each family of addresses; they have the same port."""
    program = tmp_path / "docker-proxy"
    program.symlink_to(sys.executable)
    words = ("-proto", "tcp", "-host-port", "33000", "-container-port", "80")
    started = [
        subprocess.Popen(
            [program, "-c", _WAITS, *words, "-host-ip", address], stdin=subprocess.PIPE
        )
        for address in ("0.0.0.0", "::")
    ]
    try:
        assert {each.pid for each in started} <= set(leftovers.forgotten_proxies())
    finally:
        for each in started:
            each.communicate()


def test_lines_are_sorted_by_kind() -> None:
    found = leftovers.sort(["listeners: tcp 1 port 2", "cgroups: /a", "firewall: table b"])
    assert found == {
        "listeners": ["tcp 1 port 2"],
        "control groups": ["/a"],
        "rules and sets": ["table b"],
    }


def test_a_listener_is_told_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = f"tcp 0100007F port {server.getsockname()[1]}"
        (told,) = leftovers.with_owners([line])
    assert told.startswith(f"{line} of ")
    assert str(os.getpid()) in told
    assert leftovers.with_owners(["tcp 0100007F port 1"]) == ["tcp 0100007F port 1 of nobody"]


def test_a_store_that_cannot_be_read_is_left_over(tmp_path: Path) -> None:
    """Its agent is dead, or has lost it: the report has to say so, and not to be lost."""
    (told,) = leftovers.leases(tmp_path / "agent.db")
    assert told.startswith("agent.db cannot be read: ")
    assert not (tmp_path / "agent.db").exists()
    sqlite3.connect(tmp_path / "agent.db").close()
    (told,) = leftovers.leases(tmp_path / "agent.db")
    assert "no such table" in told
