"""Real connections of a sandbox, and the rules that the kernel says they met."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.network.tracing import trace
from tests.integration.network.conftest import SETTINGS
from tests.integration.network.test_repairs import sh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.model.network_views import TraceView
    from agent.model.task import TaskNetwork
    from agent.network.pool import TaskNetworks
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

ONE = "arn:task/one"
SERVE = "import socket; s = socket.create_server(('', 8080)); print(flush=True); input()"


@contextlib.contextmanager
def serving(*where: str) -> Iterator[None]:
    """Listen on port 8080 of a namespace."""
    command = [*where, sys.executable, "-c", SERVE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield
        finally:
            server.kill()


def inside(task: TaskNetwork) -> tuple[str, ...]:
    return ("nsenter", "-t", str(task.sandbox_pid), "-n")


@pytest.fixture
async def networks(host: Host) -> AsyncIterator[TaskNetworks]:
    yield await host.networks()
    tables = sh("nft", "list", "tables")
    assert trace.table_name(SETTINGS.table) not in tables


async def traced(
    networks: TaskNetworks, peer: str, port: int = 8080, protocol: str = "tcp"
) -> TraceView:
    return await networks.inspection.trace(ONE, [], peer=peer, port=port, protocol=protocol)


async def test_between_tasks_and_to_the_host(networks: TaskNetworks) -> None:
    one = await networks.claim(ONE, "")
    two = await networks.claim("arn:task/two", "")
    with serving(*inside(two)):
        view = await traced(networks, two.ipv4)
    assert (view.answer, view.dropped_by, view.source) == ("connected", None, one.ipv4)
    assert ("bridge", "from_task", "own packets") in {
        (step.family, step.chain, step.rule) for step in view.steps
    }
    refused = await traced(networks, two.ipv4)
    assert (refused.answer, refused.dropped_by) == ("refused", None)
    # Introspection is closed to tasks that have an address of their own.
    closed = await traced(networks, one.gateway, SETTINGS.introspection_port)
    assert closed.dropped_by is not None
    assert closed.dropped_by.rule == "others to introspection"
    # A blackhole route of the sandbox, which no rule needs to see.
    blocked = await traced(networks, "169.254.169.254")
    assert (blocked.source, blocked.steps) == ("", [])
    datagram = await traced(networks, two.ipv4, 53, "udp")
    assert (datagram.answer, datagram.dropped_by) == ("refused", None)


async def test_a_rule_of_somebody_else_is_named(networks: TaskNetworks) -> None:
    one = await networks.claim(ONE, "")
    table = "table inet others {\n chain c {\n type filter hook input priority 50\n"
    subprocess.run(  # noqa: ASYNC221 - takes milliseconds
        ["nft", "-f", "-"],
        input=f'{table} tcp dport 8080 counter drop comment "not today"\n }}\n}}\n',
        text=True, check=True,
    )  # fmt: skip
    try:
        view = await traced(networks, one.gateway)
    finally:
        sh("nft", "delete", "table", "inet", "others")
    assert view.dropped_by is not None
    assert (view.dropped_by.table, view.dropped_by.chain) == ("others", "c")
    assert view.dropped_by.rule.endswith('drop comment "not today"')


async def test_a_container_in_bridge_mode_and_one_of_the_host(
    host: Host, networks: TaskNetworks
) -> None:
    (docker0,) = json.loads(sh("ip", "-j", "-4", "addr", "show", "dev", "docker0"))
    gateway = docker0["addr_info"][0]["local"]
    for mode in ("bridge", "host"):
        body = {"Image": host.image, "HostConfig": {"NetworkMode": mode}}
        container = await host.engine.create_container(f"traced-{mode}", body)
        try:
            await host.engine.start_container(container)
            with serving():
                view = await networks.inspection.trace(
                    "arn:task/none", [container], peer=gateway, port=8080, protocol="tcp"
                )
        finally:
            await host.engine.remove_container(container, force=True)
        assert (view.answer, view.dropped_by) == ("connected", None), mode
        assert any(step.table == SETTINGS.table for step in view.steps), (mode, view)
