"""The engine alone: the same containers over its HTTP API, with nothing in between."""

from __future__ import annotations

import http.client
import json
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SOCKET = "/var/run/docker.sock"
_CPUCLOCK_SCHED = 2
"""Kind of a processor clock, in the number by which the kernel names another process's clock."""


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(SOCKET)


class RawEngine:
    """One keep-alive connection to the engine; not for several threads at once."""

    def __init__(self) -> None:
        self._connection = _Connection("localhost")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Make one call and return its JSON; raises for anything but success."""
        data = json.dumps(body) if body is not None else None
        self._connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text!r}")
        return json.loads(text) if text else None

    def create_and_start(self, body: dict[str, Any]) -> tuple[str, float]:
        """Create and start a container; returns its id and the seconds both calls took."""
        name = f"bench-{uuid.uuid4().hex[:12]}"
        begun = time.monotonic()
        container_id = self.call("POST", f"/containers/create?name={name}", body)["Id"]
        self.call("POST", f"/containers/{container_id}/start")
        return container_id, time.monotonic() - begun

    def remove(self, container_id: str) -> None:
        """Remove a container by force."""
        self.call("DELETE", f"/containers/{container_id}?force=1&v=1")


def body(image: str, mode: str, port: int = 0) -> dict[str, Any]:
    """Return the create body that matches what the agent makes of ``payload``."""
    published = {"PortBindings": {f"{port}/tcp": [{"HostPort": ""}]}} if port else {}
    return {
        "Image": image,
        "Cmd": ["sleep", "100000"],
        "Labels": {"ecs-bench": "floor"},
        "HostConfig": {
            "NetworkMode": mode,
            "CpuShares": 2,
            "Memory": 32 * 1024 * 1024,
            **published,
        },
    }


def launch_many(image: str, mode: str, count: int, workers: int) -> tuple[list[str], float]:
    """Create and start containers side by side; returns their ids and the seconds it took."""
    engines = [RawEngine() for _ in range(workers)]

    def work(index: int) -> list[str]:
        mine = range(index, count, workers)
        return [engines[index].create_and_start(body(image, mode))[0] for _ in mine]

    begun = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        ids = [i for made in pool.map(work, range(workers)) for i in made]
    return ids, time.monotonic() - begun


def cpu_seconds(*pids: int) -> float:
    """Return the processor seconds that processes have used so far, also in threads that have ended.

    From their processor clocks: the times in ``/proc/<pid>/stat`` are counted in ticks on some kernels,
    and processes that wake up with a timer were charged twice what they used.
    """
    return sum(time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED) for pid in pids)


def pss_mib(pid: int) -> float:
    """Return the proportional memory of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def engine_pids() -> list[int]:
    """Return the processes of the engine: dockerd and containerd, in this process's mount namespace.

    Engines of other isolated hosts on this machine are in other namespaces.
    """
    own = Path("/proc/self/ns/mnt").readlink()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name = (entry / "comm").read_text().strip()
                here = (entry / "ns/mnt").readlink() == own
            except OSError:
                continue
            if here and name in {"dockerd", "containerd"}:
                found.append(int(entry.name))
    return found
