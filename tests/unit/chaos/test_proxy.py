"""What is between an agent and control does what it is told, to open connections too."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import TYPE_CHECKING

import pytest

from tests.chaos import proxy
from tests.chaos.proxy import Proxies, Proxy
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S = 30.0
SHORT_WAIT_S = 0.5


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def passed() -> list[str]:
    return []


@pytest.fixture
def between(passed: list[str]) -> Iterator[Proxy]:
    """A proxy in front of a server that answers with what it gets."""
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with Proxies(passed.append) as proxies:
            yield proxies.add(server.server_address[1], "seed")
        server.shutdown()
        thread.join(LIMIT_S)


def connect(between: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", between.port), LIMIT_S)


def rest(client: socket.socket) -> bytes:
    """Return what still arrives before the connection ends, in one way or another."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65_536):
            found += data
    return found


def test_it_passes_on_both_ways_and_tells_so(between: Proxy, passed: list[str]) -> None:
    with connect(between) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
    eventually(lambda: len(passed) == 2, what="both are told")
    assert passed == ["report sent to control", "order sent to agent"]


def test_a_cut_ends_what_is_open_and_refuses_the_rest(between: Proxy) -> None:
    with connect(between) as client:
        client.sendall(b"a")
        assert client.recv(100) == b"a"
        between.become(proxy.CUT)
        assert rest(client) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(between)
    between.become(proxy.FLOWS)
    with connect(between) as client:
        client.sendall(b"b")
        assert client.recv(100) == b"b"


def test_a_stall_keeps_everything_back_until_it_flows_again(between: Proxy) -> None:
    with connect(between) as client:
        between.become(proxy.STALLED)
        client.sendall(b"late")
        client.settimeout(SHORT_WAIT_S)
        with pytest.raises(TimeoutError):
            client.recv(100)
        between.become(proxy.FLOWS)
        client.settimeout(LIMIT_S)
        assert client.recv(100) == b"late"


def test_what_is_slow_arrives_whole(between: Proxy) -> None:
    between.become(proxy.SLOW, 0.01)
    sent = bytes(range(256)) * 20
    with connect(between) as client:
        client.sendall(sent)
        found = b""
        while len(found) < len(sent):
            found += client.recv(65_536)
    assert found == sent


def test_what_is_short_ends_in_the_middle(between: Proxy) -> None:
    between.become(proxy.SHORT)
    sent = b"x" * 20_000
    with connect(between) as client:
        client.sendall(sent)
        assert len(rest(client)) < len(sent)
