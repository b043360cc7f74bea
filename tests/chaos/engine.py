"""The Docker Engine of a run: this host's only one, with live-restore, to kill and start at will."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import psutil

from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Iterable

_START_LIMIT_S = 180.0
_STOP_LIMIT_S = 120.0
_TRIES = 4
_PID_FILE = Path("/run/docker.pid")
_CONTAINERD_PID_FILE = Path("/run/docker/containerd/containerd.pid")


class Engine:
    """dockerd, with the settings that ``docs/operations.md`` recommends."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, like a service manager again and again; returns once it answers."""
        for _ in range(_TRIES):
            if self._starts():
                return
            self.kill()
        raise AssertionError(f"dockerd does not start: {self._log.read_text()[-2000:]}")

    def _starts(self) -> bool:
        _PID_FILE.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--live-restore", f"--pidfile={_PID_FILE}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < deadline:
            if run_docker("version", "-f", "{{.Server.Version}}", limit_s=30.0):
                return True
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        return False

    def kill(self) -> None:
        """Kill it, to simulate a crash; its containers keep running.

        The kernel kills its containerd with it. A new engine that still finds that one alive waits for it in vain.
        """
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError, ValueError):
            pid = int(_CONTAINERD_PID_FILE.read_text())
            while "containerd" in Path(f"/proc/{pid}/comm").read_text():
                time.sleep(0.01)
        _CONTAINERD_PID_FILE.unlink(missing_ok=True)

    def busybox(self) -> str:
        """Return the reference of an image with busybox."""
        client = docker.APIClient(version="auto")
        try:
            return images.busybox(client)
        finally:
            client.close()

    def end(self) -> None:
        """Remove all containers, and stop it with its containerd."""
        if self.process is None:
            return
        if self.process.poll() is not None:
            self.start()
        if containers := run_docker("ps", "-aq").split():
            run_docker("rm", "-f", "-v", *containers, limit_s=_STOP_LIMIT_S)
        self.process.terminate()
        try:
            self.process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        _kill_forgotten()


def _kill_forgotten() -> None:
    """Kill what engines forgot that were killed in the middle of a start; nobody else would ever end it."""
    here = Path("/proc/self/ns/net").readlink()
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(OSError, psutil.Error):
            if not process.info["name"].startswith("containerd-shim"):
                continue
            if Path(f"/proc/{process.pid}/ns/net").readlink() == here:
                for each in (*process.children(recursive=True), process):
                    each.kill()


def run_docker(*words: str, limit_s: float = 60.0) -> str:
    """Return what a command of the Docker CLI prints; empty if it fails or takes too long."""
    try:
        done = subprocess.run(
            ["docker", *words], capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def remove_labelled(label: str, within_s: float = 120.0) -> None:
    """Remove all containers with a label, although the engine may die or be dead; raises ``TimeoutError``."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            shown = subprocess.run(
                ["docker", "ps", "-aq", "--filter", f"label={label}"],
                capture_output=True,
                text=True,
                timeout=60.0,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            time.sleep(0.5)
            continue
        if not shown.stdout.split():
            return
        run_docker("rm", "-f", *shown.stdout.split())
    raise TimeoutError(f"containers with the label {label} cannot be removed")


def inspect(ids: Iterable[str]) -> list[dict[str, object]]:
    """Return what the engine tells of some containers that it still has."""
    found: list[dict[str, object]] = []
    for each in ids:
        told = run_docker("inspect", each)
        found += json.loads(told) if told else []
    return found
