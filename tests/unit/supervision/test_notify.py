"""Messages to the service manager, received as it would receive them."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from agent.supervision.notify import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    address = str(tmp_path / "notify")
    if request.param == "abstract":
        address = f"@ecs-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        listener.setblocking(False)
        yield address, listener


def _received(listener: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


def test_says_everything_that_systemd_knows(manager: tuple[str, socket.socket]) -> None:
    address, listener = manager
    notifier = Notifier(address)
    before = time.monotonic_ns() // 1000
    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    notifier.alive()
    ready, reloading, stopping, alive = _received(listener)
    assert (ready, stopping, alive) == ("READY=1", "STOPPING=1", "WATCHDOG=1")
    head, _, at = reloading.partition("\nMONOTONIC_USEC=")
    assert head == "RELOADING=1"
    assert before <= int(at) <= time.monotonic_ns() // 1000


def test_a_status_is_one_line_and_sent_only_when_it_changes(
    manager: tuple[str, socket.socket],
) -> None:
    address, listener = manager
    notifier = Notifier(address)
    for text in ("2 tasks", "2 tasks", "a\nREADY=1\n b", "x" * 5000):
        notifier.status(text)
    first, second, long = _received(listener)
    assert first == "STATUS=2 tasks"
    assert second == "STATUS=a READY=1 b"
    assert len(long) < 500
    assert long.endswith("…")


def test_a_status_for_which_there_was_no_room_is_sent_again(
    manager: tuple[str, socket.socket],
) -> None:
    address, listener = manager
    notifier = Notifier(address)
    for _ in range(1000):  # more than any queue holds
        notifier.alive()
    notifier.status("2 tasks")
    assert "STATUS=2 tasks" not in _received(listener)

    notifier.status("2 tasks")
    notifier.status("2 tasks")
    assert _received(listener) == ["STATUS=2 tasks"]


def test_without_a_manager_nothing_happens() -> None:
    Notifier().ready()
    Notifier.take({}).alive()


@pytest.mark.parametrize(
    "address", ["/nowhere/at/all", "@nobody-listens-here", "vsock:2:1234", "/x" * 200, "a\0b"]
)
def test_a_manager_that_cannot_be_reached_is_no_error(address: str) -> None:
    notifier = Notifier(address)
    notifier.ready()
    notifier.status("fine")


def test_a_manager_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / "deaf"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        notifier = Notifier(str(path))
        began = time.monotonic()
        for _ in range(2000):
            notifier.alive()
        assert time.monotonic() - began < 5.0


def test_children_inherit_none_of_it() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    assert Notifier.take(environ).watchdog_s == 30.0
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "variables",
    [
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_PID": str(os.getpid())},
    ],
)
def test_a_watchdog_that_is_not_ours_is_not_fed(variables: dict[str, str]) -> None:
    assert Notifier.take({"NOTIFY_SOCKET": "/run/x", **variables}).watchdog_s == 0.0
