"""Listening sockets over a restart: handed to a manager and taken over from it, by real descriptors."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.supervision.held_sockets import HeldSockets
from agent.supervision.notify import Notifier
from tests.support.fleet import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAKER = """
import os, sys
from agent.supervision.held_sockets import HeldSockets
from agent.supervision.notify import Notifier
os.environ["LISTEN_PID"] = str(os.getpid())
held = HeldSockets.take(os.environ, Notifier())
assert not any("LISTEN_" in name or "HELD" in name for name in os.environ)
mine = held.listening("logs", "127.0.0.1", int(sys.argv[1]))
mine.setblocking(True)
waiting, _ = mine.accept()
waiting.sendall(b"served by the next process")
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[Notifier, socket.socket]]:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(5)
        yield Notifier(address), listener


def stored(listener: socket.socket) -> tuple[str, list[int]]:
    message, descriptors, _, _ = socket.recv_fds(listener, 4096, 4)
    return message.decode(), descriptors


def test_who_calls_between_two_processes_is_served_by_the_next(
    manager: tuple[Notifier, socket.socket],
) -> None:
    notifier, listener = manager
    port = free_port()
    first = HeldSockets(notifier, {})
    mine = first.listening("logs", "127.0.0.1", port)
    message, (kept,) = stored(listener)
    assert message == "FDSTORE=1\nFDNAME=logs"
    mine.close()
    first.close()  # this process has ended
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
            subprocess.run(
                [sys.executable, "-c", TAKER, str(port)],
                env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "logs"},
                preexec_fn=lambda: os.dup2(kept, 3),
                close_fds=False,
                check=True,
                timeout=60,
            )
            assert caller.recv(100) == b"served by the next process"
    finally:
        os.close(kept)


def test_a_parent_hands_its_sockets_to_each_child() -> None:
    port = free_port()
    parent = HeldSockets(Notifier(), {})
    parent.listening("logs", "127.0.0.1", port).close()
    variables, descriptors = parent.for_child()
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
            subprocess.run(
                [sys.executable, "-c", TAKER, str(port)],
                env={**os.environ, **variables},
                pass_fds=descriptors,
                check=True,
                timeout=60,
            )
            assert caller.recv(100) == b"served by the next process"
    parent.close()
    assert parent.for_child() == ({}, [])


def test_a_session_gets_the_socket_of_the_one_before() -> None:
    held = HeldSockets(Notifier(), {})
    port = free_port()
    first = held.listening("logs", "127.0.0.1", port)
    first.close()
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        second = held.listening("logs", "127.0.0.1", port)
        second.setblocking(True)
        second.settimeout(5)
        second.accept()[0].close()
        second.close()
    held.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_another_port_takes_the_place_of_the_old_one(
    manager: tuple[Notifier, socket.socket],
) -> None:
    notifier, listener = manager
    held = HeldSockets(notifier, {})
    old, new = free_port(), free_port()
    held.listening("logs", "127.0.0.1", old).close()
    held.listening("logs", "127.0.0.1", new).close()
    messages = []
    for _ in range(3):
        message, descriptors = stored(listener)
        messages.append(message)
        for descriptor in descriptors:
            os.close(descriptor)
    assert messages == [
        "FDSTORE=1\nFDNAME=logs",
        "FDSTOREREMOVE=1\nFDNAME=logs",
        "FDSTORE=1\nFDNAME=logs",
    ]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", old), timeout=5)
    held.close()


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        held = HeldSockets(Notifier(), {})
        with pytest.raises(OSError, match="in use"):
            held.listening("logs", "127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "logs"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "nonsense"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"},
        {"ECS_AGENT_HELD_SOCKETS": "logs=nonsense,=,logs=1,logs=99999"},
    ],
)
def test_what_is_not_for_this_process_is_not_taken(environ: dict[str, str]) -> None:
    held = HeldSockets.take(environ, Notifier())
    assert not environ
    held.close()
