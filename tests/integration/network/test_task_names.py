"""Names of tasks as real sandboxes and containers ask for them, beside a real name server of the host."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agent.model.names import NamedInstance, NameUpdates, TaskName
from agent.network.host.firewall import FAMILY, names_table
from agent.network.kernel import nft
from agent.wiring.names import TaskNames
from tests.integration.network.conftest import SETTINGS
from tests.support.dns_messages import Response, query, read_response
from tests.support.fleet import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.conftest import Containers
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

(SERVER,) = SETTINGS.dns_servers
TABLE = names_table(SETTINGS.table)
ASK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
    asked.settimeout(20)
    asked.connect((sys.argv[1], 53))
    asked.send(bytes.fromhex(sys.argv[2]))
    print(asked.recv(4096).hex())
"""


class Upstream(asyncio.DatagramProtocol):
    """The name server of the host: answers everything with a refusal."""

    transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data[:2] + b"\x81\x85" + data[4:], addr)


@pytest.fixture
def server_address() -> Iterator[None]:
    """The address of the name server, on this host."""
    subprocess.run(["ip", "addr", "add", f"{SERVER}/32", "dev", "lo"], check=True, timeout=10)
    yield
    subprocess.run(["ip", "addr", "del", f"{SERVER}/32", "dev", "lo"], check=False, timeout=10)


@pytest.fixture
async def upstream(server_address: None) -> AsyncIterator[None]:
    made = Upstream()
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: made, local_addr=(SERVER, 53))
    yield
    made.transport.close()


@contextlib.asynccontextmanager
async def answering(*, ends: bool = True) -> AsyncIterator[TaskNames]:
    """The names of one agent, which ends, or is killed."""
    names = TaskNames(SETTINGS, lambda _address: "")
    run = asyncio.create_task(names.run())
    try:
        yield names
    finally:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        if ends:
            await names.close()
        else:
            assert names._answering is not None
            assert names._answering._server is not None
            await names._answering._server.close()


def update(*addresses: str) -> NameUpdates:
    instances = tuple(NamedInstance(id=f"t{each}", ipv4=each) for each in addresses)
    name = TaskName(name="web.shop.internal", ttls={"A": 5}, instances=instances)
    return NameUpdates(zones={"shop.internal": 5}, names=[name])


async def printed(*command: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


async def ask(pid: int, name: str = "web.shop.internal") -> Response:
    """Ask the name server from the namespace of a process."""
    inside = ("nsenter", "--net", "--target", str(pid))
    program = (sys.executable, "-c", ASK, SERVER, query(name).hex())
    return read_response(bytes.fromhex(await printed(*inside, *program)))


def led() -> bool:
    """Return whether the rule is there."""
    return nft.listed(FAMILY, TABLE) is not None


async def test_tasks_and_containers_find_names_while_there_are_some(
    host: Host, upstream: None, containers: Containers
) -> None:
    networks = await host.networks()
    task = (await networks.claim("a", "eni-1")).sandbox_pid
    made = await containers.run(HostConfig={"NetworkMode": "bridge"})
    bridged = int(await printed("docker", "inspect", "-f", "{{.State.Pid}}", made))
    async with answering() as names:
        assert (await ask(task)).code == 5, "the name server's answer"
        names.take(update("10.0.0.1"))
        await asyncio.to_thread(eventually, led)
        for pid in (task, bridged):
            found = await ask(pid)
            assert [each.data for each in found.answers] == ["10.0.0.1"]
            assert (await ask(pid, "nothing.shop.internal")).code == 3
        assert (await ask(task, "example.com")).code == 5, "passed on"
        # Somebody removes the rule, and the agent looks.
        await printed("nft", "delete", "table", FAMILY, TABLE)
        names.look_again()
        await asyncio.to_thread(eventually, led)
        # A change is in the next answer.
        names.take(update("10.0.0.2"))
        assert [each.data for each in (await ask(task)).answers] == ["10.0.0.2"]
        names.take(NameUpdates(full=True))
        await asyncio.to_thread(eventually, lambda: not led())
        assert (await ask(task)).code == 5
        names.take(update("10.0.0.3"))
        await asyncio.to_thread(eventually, led)
    assert not await asyncio.to_thread(led)
    assert (await ask(task)).code == 5
    await networks.release("a")


async def test_the_rule_of_an_agent_that_was_killed_goes(host: Host, upstream: None) -> None:
    networks = await host.networks()
    task = (await networks.claim("a", "eni-1")).sandbox_pid
    async with answering(ends=False) as names:
        names.take(update("10.0.0.1"))
        await asyncio.to_thread(eventually, led)
    assert await asyncio.to_thread(led), "left behind"
    async with answering():
        await asyncio.to_thread(eventually, lambda: not led())
        assert (await ask(task)).code == 5
    await networks.release("a")
