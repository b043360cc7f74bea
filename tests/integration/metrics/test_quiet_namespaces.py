"""A namespace without traffic is not read again, and any traffic in it is seen in the next round."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from agent.metrics.cgroup import CgroupTree
from agent.metrics.collector import Collector
from agent.metrics.host import HostReader
from agent.metrics.links import LinkReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.model.metrics import TaskSample
    from tests.integration.metrics.conftest import Running

pytestmark = pytest.mark.integration


def in_network_of(container: Running, *command: str) -> None:
    subprocess.run(
        ["nsenter", "--target", str(container.pid), "--net", *command], check=True, timeout=20
    )


@pytest.fixture
def collector() -> Iterator[Collector]:
    tree, host = CgroupTree(), HostReader({"data": Path("/")})
    made = Collector(tree, host, proc=Path("/proc"), max_open_files=1000)
    yield made
    made.close()
    assert made.open_files == 0


def test_only_a_quiet_namespace_is_not_read_again(
    start: Callable[..., Running], collector: Collector
) -> None:
    container = start("sleep", "600")
    reads = 0

    def counted(reader: LinkReader, *, real: Any = LinkReader.read) -> Any:
        nonlocal reads
        reads += 1
        return real(reader)

    def collect() -> TaskSample:
        (task,) = collector.collect([container.target()]).tasks
        return task

    def settle() -> TaskSample:
        """Return the sample after which the namespace has stayed quiet for some rounds."""
        quiet, task = 0, collect()
        while quiet < 3:
            before = reads
            task = collect()
            quiet = quiet + 1 if reads == before else 0
        return task

    with patch.object(LinkReader, "read", counted):
        before = settle()
        assert before.network is not None
        assert before.rx_bytes_per_s == 0.0

        # From outside, while the container does not run: an address that nobody has is asked for.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("172.17.255.254", 9))
        deadline = time.monotonic() + 20
        while (after := collect().network) is None or after.rx_packets == before.network.rx_packets:
            assert time.monotonic() < deadline, "its packets are not seen"

        before = settle()
        assert before.network is not None
        # Another link of the namespace, whose traffic no link of the host can tell.
        in_network_of(container, "ip", "link", "add", "a0", "type", "veth", "peer", "name", "b0")
        collector._tasks["arn/t1"].wake()
        collector._networks["arn/t1"]._networks[container.id].due_s = 0.0
        assert collect().links.keys() == {"eth0", "a0", "b0"}
        for _ in range(3):
            known = reads
            collect()
            assert reads == known + 1
