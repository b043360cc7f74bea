"""A task closes a port to itself, from inside of its container, and the agent is replaced meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration

PORT = {"Port": 7010, "Protocol": "tcp", "TrafficType": "egress"}


def inside(host: Host, arn: str, command: str) -> str:
    """Run a command in the container of a task; return what it printed."""
    (container,) = host.containers(arn, only_running=True)
    done = subprocess.run(
        ["docker", "exec", container, "sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout + done.stderr


def ask(host: Host, arn: str, fault: str, op: str, body: dict[str, Any]) -> str:
    url = f"$ECS_AGENT_URI/fault/v1/{fault}/{op}"
    return inside(host, arn, f"wget -q -O - --post-data '{json.dumps(body)}' {url}")


def test_a_black_hole_from_inside_of_the_task(fresh: Callable[..., Host]) -> None:
    host = fresh().start()
    arn = host.run_task(networkMode="awsvpc", enableFaultInjection=True)
    plain = host.run_task(networkMode="awsvpc")
    assert "400" in ask(host, plain, "network-blackhole-port", "start", PORT)
    assert ask(host, arn, "network-blackhole-port", "start", PORT) == '{"Status":"running"}'
    assert "429" in ask(host, arn, "network-blackhole-port", "start", PORT)
    # What is dropped runs into the time limit; without the fault it is refused or answered at once.
    gateway = inside(host, arn, "ip route show default").split()[2]
    connect = f"nc -w 2 {gateway} 7010 </dev/null"
    began = time.monotonic()
    assert "timed out" in inside(host, arn, connect)
    assert time.monotonic() - began >= 2

    host.crash()
    host.start()
    assert ask(host, arn, "network-blackhole-port", "status", PORT) == '{"Status":"running"}'
    assert ask(host, arn, "network-blackhole-port", "stop", PORT) == '{"Status":"stopped"}'
    assert "timed out" not in inside(host, arn, connect)
    host.stop_task(arn)
    host.stop_task(plain)
