"""Containers in sandboxes that were ready: on a real engine, over an agent's crash, without a leak."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.integration.e2e.conftest import describe, register, run
from tests.support import fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

FAST = {"Delay": 1, "MaxAttempts": 60}


def inspect(name: str) -> dict[str, Any]:
    """Return what the engine says of a container."""
    done = subprocess.run(["docker", "inspect", name], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout)[0])


def _containers(client: Any, arn: str) -> list[str]:
    (task,) = describe(client, arn)
    return [container["runtimeId"] for container in task["containers"]]


def _ready() -> list[str]:
    done = subprocess.run(
        ["docker", "ps", "-q", "--filter", "label=ecs-host-agent.container-sandbox"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


SERVE = "mkdir /www; hostname -i > /www/index.html; httpd -p 80 -h /www; exec sleep 1000"


def test_a_published_port_of_a_ready_sandbox_is_reached_as_any_other(
    leak_check: None, tmp_path: Path, busybox_image: str
) -> None:
    del leak_check
    with (
        fleet.fleet(tmp_path, ECS_IMAGE_PULL_BEHAVIOR="prefer-cached") as made,
        neighbour() as near,
    ):
        client, agent = made.client(), made.agents[0]
        mappings = [{"containerPort": 80}, {"containerPortRange": "5000-5001", "protocol": "udp"}]
        ports = [{"portMappings": mappings}]
        definition = register(client, busybox_image, SERVE, mode="bridge", containers=ports)
        (first,) = run(client, definition)
        client.get_waiter("tasks_running").wait(tasks=[first], WaiterConfig=FAST)
        fleet.eventually(lambda: len(_ready()) >= 2, what="sandboxes are ready")
        (second,) = run(client, definition)
        client.get_waiter("tasks_running").wait(tasks=[second], WaiterConfig=FAST)
        (own,) = (inspect(name) for name in _containers(client, second))
        sandbox = inspect(own["HostConfig"]["NetworkMode"].removeprefix("container:"))
        port, bindings = _bindings(client, second)
        assert bindings == {
            each: [int(end["HostPort"]) for end in ends]
            for each, ends in sandbox["HostConfig"]["PortBindings"].items()
        }
        address = sandbox["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        gateway = sandbox["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
        other = _containers(client, first)[0]
        ways = {
            "the loopback": ["curl", "-sm", "5", f"http://127.0.0.1:{port}/"],
            "an address of the host": ["curl", "-sm", "5", f"http://{gateway}:{port}/"],
            "another host": [*near.inside, "curl", "-sm", "5", f"http://{near.host}:{port}/"],
            "another container": [
                "docker",
                "exec",
                other,
                "wget",
                "-qO-",
                f"http://{gateway}:{port}/",
            ],
            "itself": ["docker", "exec", own["Id"], "wget", "-qO-", f"http://{gateway}:{port}/"],
        }
        for way, command in ways.items():
            page = fleet.eventually(partial(output, *command), what=f"the port answers over {way}")
            assert page == address, way
        agent.kill()
        assert output(*ways["another host"]) == address, "its port closed with the agent"
        agent.start()
        (third,) = run(client, definition)
        client.get_waiter("tasks_running").wait(tasks=[third], WaiterConfig=FAST)
        assert _bindings(client, second) == (port, bindings)
        assert output(*ways["the loopback"]) == address
        assert port not in _bindings(client, third)[1]["80/tcp"]

        sh("docker", "network", "disconnect", "bridge", sandbox["Id"])
        fleet.eventually(partial(output, *ways["the loopback"]), what="it is connected again")
        assert "was disconnected from network bridge" in agent.cli("status")

        client.stop_task(task=second)
        client.get_waiter("tasks_stopped").wait(tasks=[second], WaiterConfig=FAST)
        fleet.eventually(partial(nobody_listens, port), what="its port is free")
        with socket.create_server(("0.0.0.0", 0)) as taken:
            mappings[:] = [{"containerPort": 80, "hostPort": taken.getsockname()[1]}]
            fixed = register(client, busybox_image, SERVE, mode="bridge", containers=ports)
            (refused,) = run(client, fixed)
            client.get_waiter("tasks_stopped").wait(tasks=[refused], WaiterConfig=FAST)
        reason = describe(client, refused)[0]["containers"][0]["reason"]
        assert reason.startswith("CannotStartContainerError"), reason
        assert "address already in use" in reason, reason
        for arn in (first, third):
            client.stop_task(task=arn)
        client.get_waiter("tasks_stopped").wait(tasks=[first, third], WaiterConfig=FAST)


def _bindings(client: Any, arn: str) -> tuple[int, dict[str, list[int]]]:
    """Return the host port of the first mapping, and all of them as the engine writes them."""
    (task,) = describe(client, arn)
    found: dict[str, list[int]] = {}
    for each in task["containers"][0]["networkBindings"]:
        if "containerPortRange" in each:
            inner, outer = (each[k].split("-") for k in ("containerPortRange", "hostPortRange"))
            pairs = zip(
                range(int(inner[0]), int(inner[1]) + 1),
                range(int(outer[0]), int(outer[1]) + 1),
                strict=True,
            )
        else:
            pairs = zip([each["containerPort"]], [each["hostPort"]], strict=True)
        for port, host in pairs:
            found.setdefault(f"{port}/{each['protocol']}", []).append(host)
    return found["80/tcp"][0], found


def nobody_listens(port: int) -> bool:
    """Tell whether a port of this host is free, of which its kernel may remember connections for a minute."""
    with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", port)):
        return True
    return False


class Neighbour(NamedTuple):
    """Another machine on a network of this host."""

    host: str
    """Address of this host there."""
    inside: list[str]
    """How a command runs on the machine."""


@contextlib.contextmanager
def neighbour() -> Iterator[Neighbour]:
    """Have another machine beside this host, as a network namespace."""
    name, link = "ecst-near", "ecst-near0"
    sh("ip", "netns", "add", name)
    try:
        sh("ip", "link", "add", link, "type", "veth", "peer", "eth0", "netns", name)
        sh("ip", "addr", "add", "192.0.2.1/30", "dev", link)
        sh("ip", "link", "set", link, "up")
        sh("ip", "-n", name, "addr", "add", "192.0.2.2/30", "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "eth0", "up")
        yield Neighbour("192.0.2.1", ["ip", "netns", "exec", name])
    finally:
        sh("ip", "netns", "del", name)


def sh(*command: str) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, capture_output=True, check=True, timeout=20)


def output(*command: str) -> str:
    """Return what a command writes; empty if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip() if done.returncode == 0 else ""
