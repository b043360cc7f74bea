"""Real etcd on the loopback, for tests: one node or several, that can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND = "/usr/bin/etcd"
_IN_MEMORY = Path("/dev/shm")


def needs_etcd() -> None:
    """Skip a test where there is no etcd; ``scripts/setup --tools`` installs it."""
    if not Path(COMMAND).exists():
        pytest.skip("etcd is not installed: scripts/setup --tools")


class EtcdNode:
    """One member."""

    def __init__(self, name: str, directory: Path, client_port: int, peer_port: int) -> None:
        self.name = name
        self.directory = directory
        self.host = f"127.0.0.1:{client_port}"
        self.peer = f"http://127.0.0.1:{peer_port}"
        self.options: Sequence[str] = ()
        self.scheme = "http"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, new or with the data that it had."""
        client = f"{self.scheme}://{self.host}"
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    COMMAND,
                    *("--name", self.name, "--data-dir", str(self.directory / self.name)),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer),
                    *("--logger", "zap", "--log-level", "error"),
                    *self.options,
                ],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "GOMAXPROCS": "1"},
            )

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a power failure would, but for the disk."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Have it do nothing until ``go_on``."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it do things again."""
        self.signal(signal.SIGCONT)

    def is_leader(self) -> bool:
        """Tell whether it leads; False if it does not answer."""
        try:
            request = urllib.request.Request(f"http://{self.host}/v3/maintenance/status", b"{}")
            with urllib.request.urlopen(request, timeout=1) as answer:
                found = json.load(answer)
        except OSError:
            return False
        return bool(found.get("leader") == found["header"]["member_id"])

    def wait_until_up(self, limit_s: float = 30.0) -> None:
        """Wait until its address accepts connections."""
        host, port = self.host.split(":")
        deadline = time.monotonic() + limit_s
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    log = (self.directory / f"{self.name}.log").read_text()[-2000:]
                    pytest.fail(f"etcd did not start: {log}")
                time.sleep(0.05)
            else:
                return


class Etcd:
    """The members of one cluster."""

    def __init__(self, nodes: list[EtcdNode]) -> None:
        self.nodes = nodes

    def address(self, prefix: str) -> str:
        """Return a store's address."""
        return f"etcd://{','.join(node.host for node in self.nodes)}{prefix}"

    def leader(self, limit_s: float = 15.0) -> EtcdNode:
        """Return the member that leads."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            for node in self.nodes:
                if node.is_leader():
                    return node
            time.sleep(0.1)
        pytest.fail("etcd has no leader")


@contextlib.contextmanager
def running(count: int = 1, *, options: Sequence[str] = (), scheme: str = "http") -> Iterator[Etcd]:
    """Run a cluster in memory, and end it."""
    needs_etcd()
    parent = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="ecs-etcd-", dir=parent))
    ports = _free_ports(2 * count)
    nodes = [EtcdNode(f"n{i}", directory, ports[2 * i], ports[2 * i + 1]) for i in range(count)]
    cluster = ",".join(f"{node.name}={node.peer}" for node in nodes)
    try:
        for node in nodes:
            node.options = ("--initial-cluster", cluster, *options)
            node.scheme = scheme
            node.start()
        for node in nodes:
            node.wait_until_up()
        yield Etcd(nodes)
    finally:
        for node in nodes:
            node.kill()
        shutil.rmtree(directory, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            found.append(one.getsockname()[1])
        return found
