"""What the demo needs on the host: images, an ``ecs-agent standalone`` process, clean-up checks.

The demo uses its own names (bridge, firewall table, images, temporary directory), so that it can
run next to anything else on the host, including another agent.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import docker
import msgspec
from docker.errors import DockerException, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BRIDGE = "ecs-demo0"
TABLE = "ecs_demo"
POOL = "10.207.240.0/24"
CLUSTER = "demo"
WEB_IMAGE = "ecs-host-agent-demo/web:1"
SIDECAR_IMAGE = "ecs-host-agent-demo/sidecar:1"
PAGE = "Hello from a task with its own address."
BUSYBOX = Path("/bin/busybox")
SANDBOX_LABEL = "ecs-host-agent.sandbox"
CLUSTER_LABEL = "com.amazonaws.ecs.cluster"
LOG_TAIL_LINES = 25
READY_LIMIT_S = 60.0
STOP_LIMIT_S = 45.0
CLEAN_LIMIT_S = 15.0

_WEB = b"""\
FROM scratch
COPY busybox /bin/busybox
COPY index.html /www/index.html
CMD ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; /bin/busybox httpd -f -p 80 -h /www & wait"]
"""
_SIDECAR = b"""\
FROM scratch
COPY busybox /bin/busybox
CMD ["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; echo watching the page; while :; do \
/bin/busybox wget -q -O /dev/null http://127.0.0.1/; /bin/busybox sleep 0.2; done"]
"""


class DemoFailed(Exception):
    """A step of the demo failed; the text says which and why."""


def build_images() -> None:
    """Build the two images of the demo from busybox; fast if the engine has them cached."""
    if not BUSYBOX.exists():
        raise DemoFailed(f"{BUSYBOX} is missing; run make setup")
    busybox = BUSYBOX.read_bytes()
    with contextlib.closing(docker.from_env()) as client:
        for tag, dockerfile in ((WEB_IMAGE, _WEB), (SIDECAR_IMAGE, _SIDECAR)):
            files = {"Dockerfile": dockerfile, "busybox": busybox, "index.html": PAGE.encode()}
            try:
                client.images.build(
                    fileobj=_tar(files), custom_context=True, tag=tag, rm=True, forcerm=True
                )
            except DockerException as error:
                raise DemoFailed(f"cannot build the image {tag}: {error}") from None


class Standalone:
    """``ecs-agent standalone`` in a temporary directory, on a free port."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="ecs-demo-"))
        self.socket = self.place / "agent.sock"
        self.log = self.place / "standalone.log"
        self.endpoint = f"http://127.0.0.1:{_free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        (self.place / "ecs.config").write_text(
            f"ECS_CLUSTER={CLUSTER}\n"
            f"ECS_AGENT_SOCKET={self.socket}\n"
            f"ECS_TASK_BRIDGE={BRIDGE}\n"
            f"ECS_FIREWALL_TABLE={TABLE}\n"
            f"ECS_TASK_POOL_CIDR={POOL}\n"
            "ECS_WARM_SANDBOXES=1\n"
            "ECS_IMAGE_PULL_BEHAVIOR=prefer-cached\n"
            "ECS_POLLING_METRICS_WAIT_DURATION=1s\n"
            "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=1s\n"
        )

    def start(self) -> None:
        """Start it, and return when it reports that the host accepts tasks."""
        command = [str(Path(sys.executable).with_name("ecs-agent")), "standalone"]
        command += ["--listen", self.endpoint.removeprefix("http://")]
        command += ["--data-dir", str(self.place / "data")]
        command += ["--config", str(self.place / "ecs.config")]
        # The shell's settings are for another agent; the demo's settings are in its file.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ECS_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_LIMIT_S
        while "standalone: ready" not in self.log.read_text(errors="replace"):
            if self._process.poll() is not None:
                raise DemoFailed(f"ecs-agent standalone ended with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"ecs-agent standalone was not ready within {READY_LIMIT_S:g} s")
            time.sleep(0.05)

    def stop(self) -> int:
        """Stop it like a service manager does, and return its exit code."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise DemoFailed(f"ecs-agent standalone did not stop in {STOP_LIMIT_S:g} s") from None

    def log_tail(self) -> list[str]:
        """Return the last lines of its log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return []

    def look(self, *arguments: str) -> Any:
        """Run a command of ``ecs-agent`` with ``--json`` and return its output."""
        command = [sys.executable, "-m", "agent", *arguments, "--json", "--socket", self.socket]
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        if done.returncode:
            raise DemoFailed(done.stderr.decode(errors="replace").strip())
        return msgspec.json.decode(done.stdout)

    def operator(self) -> dict[str, str]:
        """Return the environment variables that AWS tools need to use it."""
        command = [
            sys.executable,
            "-m",
            "agent",
            "env",
            "--json",
            "--data-dir",
            self.place / "data",
        ]
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        if done.returncode:
            raise DemoFailed(done.stderr.decode(errors="replace").strip())
        return msgspec.json.decode(done.stdout, type=dict[str, str])

    def remove(self) -> None:
        """Remove its directory."""
        rmtree(self.place, ignore_errors=True)


def left_behind(place: Path) -> list[str]:
    """Wait until nothing of the demo is left, up to a limit; return what is left."""
    deadline = time.monotonic() + CLEAN_LIMIT_S
    while (left := list(_leftovers(place))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def sweep() -> None:
    """Remove everything that an unfinished demo left: containers first, then bridge and rules."""
    with contextlib.suppress(DockerException), contextlib.closing(docker.from_env()) as client:
        for container in _containers(client):
            with contextlib.suppress(NotFound):
                container.remove(force=True, v=True)
    _output("ip", "link", "delete", BRIDGE)
    parts = (("inet", f"{TABLE}_{part}") for part in ("groups", "names"))
    for family, table in (("inet", TABLE), ("bridge", TABLE), *parts):
        _output("nft", "delete", "table", family, table)
    for rule in _output("iptables", "-w", "5", "-S", "DOCKER-USER").splitlines():
        if BRIDGE in rule:
            _output("iptables", "-w", "5", "-D", *shlex.split(rule)[1:])


def _leftovers(place: Path) -> Iterator[str]:
    with contextlib.closing(docker.from_env()) as client:
        yield from (f"container {container.name}" for container in _containers(client))
    links = _output("ip", "-o", "link")
    yield from (
        f"link {line.split(': ')[1]}"
        for line in links.splitlines()
        if f" master {BRIDGE} " in line or f": {BRIDGE}:" in line
    )
    if POOL.rpartition(".")[0] in _output("ip", "route", "show", "table", "all"):
        yield f"a route or an address in {POOL}"
    rules = _output("nft", "list", "ruleset")
    if TABLE in rules or BRIDGE in rules:
        yield f"firewall rules that name {TABLE} or {BRIDGE}"
    if place.exists():
        yield f"files in {place}"


def _containers(client: docker.DockerClient) -> Iterable[Any]:
    """Yield the demo's containers: those of its tasks, and pause containers that use its pool."""
    for container in client.containers.list(all=True, ignore_removed=True):
        of_task = container.labels.get(CLUSTER_LABEL) == CLUSTER
        addresses = " ".join(container.labels.values())
        is_sandbox = SANDBOX_LABEL in container.labels and POOL.rpartition(".")[0] in addresses
        if of_task or is_sandbox:
            yield container


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout


def _tar(files: Mapping[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer
