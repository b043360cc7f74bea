"""``ecs-agent standalone`` as real processes: start, crash of either child, and the end of all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.leaks import HostSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

BRIDGE = "ecs-cli-test0"
LIMIT_S = 30.0
CONNECTED = re.compile(r"(?m)^Control +\S+ connected")


class Standalone:
    """One ``ecs-agent standalone``, with everything named so that others are not disturbed."""

    def __init__(self, place: Path, **settings: str) -> None:
        self.place = place
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.socket = place / "a.sock"
        lines = {
            "ECS_AGENT_SOCKET": str(self.socket),
            "ECS_TASK_BRIDGE": BRIDGE,
            "ECS_FIREWALL_TABLE": "ecs_cli_test",
            "ECS_TASK_POOL_CIDR": "10.207.241.0/24",
            "ECS_WARM_SANDBOXES": "0",
            "ECS_CLUSTER": "cli-test",
            **settings,
        }
        (place / "ecs.config").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        self._log = (place / "log").open("w")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "agent", "standalone"),
                *("--listen", f"127.0.0.1:{self.port}"),
                *("--data-dir", str(place / "data")),
                *("--config", str(place / "ecs.config")),
            ],
            env={k: v for k, v in os.environ.items() if not k.startswith("ECS_")},
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )

    @property
    def log(self) -> str:
        return (self.place / "log").read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def wait_until_ready(self) -> None:
        self.wait_for(lambda: "standalone: ready" in self.log)

    def child(self, command: str) -> psutil.Process:
        """Return the child that runs ``control`` or ``run``."""
        return next(child for child, words in self._children() if command in words)

    def has_child(self, command: str, *, other_than: int) -> bool:
        return any(
            command in words and child.pid != other_than for child, words in self._children()
        )

    def _children(self) -> Iterator[tuple[psutil.Process, list[str]]]:
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it may have ended a moment ago
                yield child, child.cmdline()

    def status(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent", "status", "--socket", str(self.socket)],
            capture_output=True,
            text=True,
            check=False,
        )

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(LIMIT_S)
        self._log.close()


@pytest.fixture
def standalone(leak_check: None, tmp_path: Path) -> Iterator[Standalone]:
    del leak_check
    running = Standalone(tmp_path)
    yield running
    running.close()


def test_it_starts_tells_so_and_leaves_with_0(standalone: Standalone) -> None:
    standalone.wait_until_ready()
    status = standalone.status()
    assert status.returncode == 0
    assert "cli-test" in status.stdout
    assert CONNECTED.search(status.stdout)
    standalone.process.terminate()
    assert standalone.process.wait(LIMIT_S) == 0
    assert "stopping; containers keep running" in standalone.log
    assert not standalone.socket.exists()


def test_a_killed_child_is_started_again(standalone: Standalone) -> None:
    standalone.wait_until_ready()
    agent, control = standalone.child("run"), standalone.child("control")
    agent.kill()
    agent.wait(LIMIT_S)
    with socket.create_connection(("127.0.0.1", 51681), timeout=5):
        pass  # the engine's log driver is not refused meanwhile
    standalone.wait_for(lambda: standalone.has_child("run", other_than=agent.pid))
    control.kill()
    standalone.wait_for(lambda: standalone.has_child("control", other_than=control.pid))
    standalone.wait_for(lambda: CONNECTED.search(standalone.status().stdout) is not None)
    assert "the agent was killed by signal 9; restarting it" in standalone.log
    assert "the control endpoint was killed by signal 9" in standalone.log


def test_the_children_of_a_killed_parent_leave(standalone: Standalone) -> None:
    standalone.wait_until_ready()
    children = psutil.Process(standalone.process.pid).children()
    assert len(children) == 2
    standalone.process.kill()
    _, alive = psutil.wait_procs(children, timeout=LIMIT_S)
    standalone.process.wait(LIMIT_S)
    assert not alive


def test_ctrl_c_ends_it_like_sigterm(standalone: Standalone) -> None:
    standalone.wait_until_ready()
    standalone.process.send_signal(signal.SIGINT)
    assert standalone.process.wait(LIMIT_S) == 0


def test_what_a_restart_cannot_mend_ends_it_with_5(leak_check: None, tmp_path: Path) -> None:
    del leak_check
    (tmp_path / "no-socket").write_text("a file")
    running = Standalone(tmp_path, ECS_AGENT_SOCKET=str(tmp_path / "no-socket"))
    assert running.process.wait(LIMIT_S) == 5
    assert "exists and is not a socket" in running.log
    assert "the agent failed with exit code 5" in running.log
    running.close()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    before = HostSnapshot.take()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "agent", "standalone"),
                *("--listen", f"127.0.0.1:{port}"),
                *("--data-dir", str(tmp_path / "data")),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the port is in use by another process" in done.stderr
    assert not (tmp_path / "data").exists()
    assert not before.wait_until_clean()
