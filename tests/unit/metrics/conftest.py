"""Made-up cgroup and process trees on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.metrics.targets import SampleTarget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUNTIME_ID = "c" * 64

NET_DEV_HEAD = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop"
    " fifo colls carrier compressed\n"
    "    lo: 999 9 9 9 0 0 0 0 999 9 9 9 0 0 0 0\n"
)


class Trees:
    """Writes containers and processes as the kernel would show them."""

    def __init__(self, root: Path) -> None:
        self.cgroup = root / "cgroup"
        self.proc = root / "proc"
        self.process("self", namespace="net:[1]")

    def v1(self, relative: str, cpu_ns: int = 10**9, *, controllers: str = "all") -> None:
        files = {
            "cpuacct": {"cpuacct.usage": f"{cpu_ns}\n", "cpuacct.stat": "user 60\nsystem 40\n"},
            "cpu": {"cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 5000\n"},
            "memory": {
                "memory.usage_in_bytes": "10000\n",
                "memory.stat": (
                    "cache 1\nrss 2\nhierarchical_memory_limit 65536\ntotal_cache 4000\n"
                    "total_rss 5000\ntotal_swap 7\ntotal_inactive_file 3000\n"
                ),
                "memory.max_usage_in_bytes": "12000\n",
                "memory.failcnt": "6\n",
                "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            },
            "pids": {"pids.current": "3\n", "pids.max": "100\n"},
            "blkio": {
                "blkio.throttle.io_service_bytes_recursive": (
                    "8:0 Read 100\n8:0 Write 20\n8:0 Sync 1\n8:16 Read 1\nTotal 120\n"
                ),
                "blkio.throttle.io_serviced_recursive": (
                    "8:0 Read 5\n8:0 Write 2\n8:16 Read 1\nTotal 8\n"
                ),
            },
        }
        for controller, contents in files.items():
            if controllers in ("all", controller):
                self._write(self.cgroup / controller / relative, contents)

    def v2(self, relative: str, cpu_us: int = 10**6) -> None:
        self._write(self.cgroup, {"cgroup.controllers": "cpu io memory pids\n"})
        self._write(
            self.cgroup / relative,
            {
                "cpu.stat": (
                    f"usage_usec {cpu_us}\nuser_usec 600000\nsystem_usec 400000\n"
                    "nr_periods 10\nnr_throttled 4\nthrottled_usec 5\n"
                ),
                "memory.current": "10000\n",
                "memory.stat": "anon 5000\nfile 4000\ninactive_file 3000\nactive_file 7\n",
                "memory.peak": "12000\n",
                "memory.events": "low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\n",
                "memory.max": "max\n",
                "memory.swap.current": "7\n",
                "pids.current": "3\n",
                "pids.max": "100\n",
                "io.stat": "8:0 rbytes=100 wbytes=20 rios=5 wios=2\n8:16 rbytes=1 wbytes=0 rios=1\n",
                "memory.pressure": (
                    "some avg10=1.50 avg60=0.50 avg300=0.10 total=123\n"
                    "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"
                ),
            },
        )

    def process(
        self, pid: int | str, *, cgroup: str = "", namespace: str = "net:[2]", received: int = 0
    ) -> None:
        line = f" eth0: {received} 2 3 4 0 0 0 0 {received * 2} 6 7 8 0 0 0 0\n"
        self._write(self.proc / str(pid), {"cgroup": cgroup})
        self._write(self.proc / str(pid) / "net", {"dev": NET_DEV_HEAD + line})
        link = self.proc / str(pid) / "ns/net"
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(namespace)

    @staticmethod
    def _write(directory: Path, contents: Mapping[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (directory / name).write_text(text)


def target(*, pid: int = 7, network_pid: int = 0, runtime_id: str = RUNTIME_ID) -> SampleTarget:
    return SampleTarget("arn/t1", "app", runtime_id, pid, network_pid)


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)
