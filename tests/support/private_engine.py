"""A private Docker Engine of a test, with or without live-restore, to stop and start at will."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import docker

from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Iterator

START_LIMIT_S = 60.0
BRIDGE = "ecs-private0"
"""Its own bridge: a dockerd with ``--bridge=none`` would delete docker0, which another engine
uses."""


@dataclass
class PrivateEngine:
    """A dockerd beside the machine's own; its own bridge and no rules keep both undisturbed."""

    directory: Path
    live_restore: bool = True
    """Containers survive a stop of the engine; without it, the stop ends them all."""
    more: tuple[str, ...] = ()
    """More arguments of dockerd."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def host(self) -> str:
        """Its address, for ``DOCKER_HOST``."""
        return f"unix://{self.directory}/docker.sock"

    def start(self) -> None:
        """Start it; returns once it answers."""
        for words in (
            ("link", "add", BRIDGE, "type", "bridge"),
            ("address", "replace", "10.207.243.1/24", "dev", BRIDGE),
        ):
            subprocess.run(["ip", *words], check=False, capture_output=True)
        with (self.directory / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "dockerd",
                    f"--host={self.host}",
                    f"--data-root={self.directory}/data",
                    f"--exec-root={self.directory}/exec",
                    f"--pidfile={self.directory}/dockerd.pid",
                    f"--bridge={BRIDGE}",
                    "--iptables=false",
                    "--ip6tables=false",
                    *(["--live-restore"] if self.live_restore else []),
                    *self.more,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            ping = ["docker", "-H", self.host, "version", "-f", "{{.Server.Version}}"]
            if subprocess.run(ping, capture_output=True, check=False).returncode == 0:
                return
            assert self.process.poll() is None, (self.directory / "dockerd.log").read_text()[-3000:]
            time.sleep(0.2)
        raise AssertionError(f"dockerd does not answer at {self.host}")

    def stop(self) -> None:
        """Stop it like a package upgrade; its containers keep running."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def kill(self) -> None:
        """Kill it, to simulate a crash; its containers keep running.

        Its containerd dies with it. A new engine that finds that one still alive would wait for it in vain.
        """
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            pid_file = self.directory / "exec/containerd/containerd.pid"
            with contextlib.suppress(OSError, ValueError):
                comm = Path(f"/proc/{int(pid_file.read_text())}/comm")
                while "containerd" in comm.read_text():
                    time.sleep(0.01)
            pid_file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Suspend it for a while, to simulate an engine that hangs."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def busybox(self) -> str:
        """Return the reference of a busybox image inside it."""
        client = docker.APIClient(base_url=self.host, version="auto")
        try:
            return images.busybox(client)
        finally:
            client.close()

    def end(self) -> None:
        """Remove its containers, stop it and its containerd, and unmount its mounts."""
        if self.process is None:
            self.start()
        client = docker.APIClient(base_url=self.host, version="auto")
        for container in client.containers(all=True):
            client.remove_container(container["Id"], force=True)
        client.close()
        self.stop()
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)
        self._end_strays()
        # With live-restore it keeps its mounts, for containers that might keep running.
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            where = line.split()[1]
            if where.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "-l", where], check=False, capture_output=True)

    def _end_strays(self) -> None:
        """Stop its containerd, and the shims of containers that died while it was down."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.directory).encode() in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
