"""What a task sees of its network, and who reaches whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.network.names import resolvers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.model.task import TaskNetwork
    from tests.integration.conftest import Containers
    from tests.integration.network.conftest import Host

pytestmark = pytest.mark.integration

BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
OUTSIDE = "198.51.100"


def inside(network: TaskNetwork, *command: str) -> str:
    """Run a command of the host in a task's network namespace."""
    enter = ["nsenter", "-t", str(network.sandbox_pid), "-n"]
    done = subprocess.run(
        [*enter, *command], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FETCH = """
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(sys.argv[1], timeout=float(sys.argv[2])).read().decode(), end="")
"""


async def fetch(network: TaskNetwork | None, url: str) -> str:
    """Get a page from within a task's namespace, or from the host."""
    command = [sys.executable, "-c", FETCH, url, "5"]
    if network is not None:
        return await asyncio.to_thread(inside, network, *command)
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


async def serve(containers: Containers, network: TaskNetwork) -> str:
    """Run a web server as a container of the task."""
    return await containers.run(
        ["httpd", "-f", "-p", "80", "-h", "/www"],
        HostConfig={"NetworkMode": f"container:{network.sandbox_id}"},
    )


@pytest.fixture(params=["0", "1"])
def bridge_netfilter(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both settings of the switch that sends bridged packets through the firewall's forwarding."""
    if not BRIDGE_NETFILTER.exists():
        if request.param == "1":
            pytest.skip("this kernel has no br_netfilter")
        yield
        return
    before = BRIDGE_NETFILTER.read_text()
    BRIDGE_NETFILTER.write_text(request.param)
    yield
    BRIDGE_NETFILTER.write_text(before)


async def test_a_container_sees_loopback_and_its_interface(
    host: Host, containers: Containers, sdk: Any
) -> None:
    networks = await host.networks(mtu=1380)
    network = await networks.claim("arn:a", "eni-a")
    assert network.interface == "eth0"
    assert (network.prefix_len, network.gateway) == (26, "10.218.77.1")
    container = await containers.run(HostConfig={"NetworkMode": f"container:{network.sandbox_id}"})

    def run(*command: str) -> str:
        made = sdk.exec_create(container, list(command))
        return str(sdk.exec_start(made["Id"]).decode())

    assert sorted(run("ls", "/sys/class/net").split()) == ["eth0", "lo"]
    assert run("cat", "/sys/class/net/eth0/address").strip() == network.mac
    assert run("cat", "/sys/class/net/eth0/mtu").strip() == "1380"
    assert run("hostname").strip() == network.hostname == "ip-" + network.ipv4.replace(".", "-")
    hosts = [line.split() for line in run("cat", "/etc/hosts").splitlines()]
    assert [network.ipv4, network.hostname] in hosts
    resolv = run("cat", "/etc/resolv.conf").splitlines()
    assert "nameserver 192.0.2.53" in resolv
    of_host = (await asyncio.to_thread(resolvers.of_host)).search
    assert [line.split()[1:] for line in resolv if line.startswith("search")] == (
        [list(of_host)] if of_host else []
    )
    assert [line for line in resolv if line.startswith("nameserver")] == ["nameserver 192.0.2.53"]
    port_start = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert run("cat", port_start).strip() == "0"
    assert run("ip", "-o", "link", "show", "lo").count("LOWER_UP") == 1
    addresses = [
        (info["local"], info["prefixlen"])
        for link in json.loads(inside(network, "ip", "-j", "addr", "show", "dev", "eth0"))
        for info in link["addr_info"]
    ]
    assert addresses == [(network.ipv4, 26)]
    routes = json.loads(inside(network, "ip", "-j", "route"))
    assert [r["gateway"] for r in routes if r["dst"] == "default"] == [network.gateway]
    assert {r.get("type") for r in routes if r["dst"] == "169.254.169.254"} == {"blackhole"}


@pytest.mark.usefixtures("bridge_netfilter")
async def test_tasks_and_host_reach_each_other(host: Host, containers: Containers) -> None:
    networks = await host.networks()
    one, two = await asyncio.gather(
        networks.claim("arn:one", "eni-1"), networks.claim("arn:two", "eni-2")
    )
    assert one.ipv4 != two.ipv4
    await serve(containers, one)
    await serve(containers, two)
    hello = "hello from busybox\n"
    assert await fetch(one, f"http://{two.ipv4}/") == hello
    assert await fetch(two, f"http://{one.ipv4}/") == hello
    assert await fetch(None, f"http://{one.ipv4}/") == hello
    assert await fetch(None, f"http://{two.ipv4}/") == hello
    assert await fetch(one, f"http://{one.ipv4}/") == hello


@contextlib.contextmanager
def neighbour() -> Iterator[int]:
    """A machine beside the host that knows nothing of the pool; yields a pid in its namespace."""
    process = subprocess.Popen(["unshare", "-n", "sleep", "120"])
    try:
        enter = f"nsenter -t {process.pid} -n"
        script = f"""
            until [ "$(readlink /proc/{process.pid}/ns/net)" != "$(readlink /proc/$$/ns/net)" ]
            do sleep 0.01; done
            ip link add ecst-out0 type veth peer name out1 netns {process.pid}
            ip addr add {OUTSIDE}.1/24 dev ecst-out0
            ip link set ecst-out0 up
            {enter} ip addr add {OUTSIDE}.2/24 dev out1
            {enter} ip link set out1 up
            {enter} ip link set lo up
        """
        subprocess.run(["sh", "-ec", script], check=True, timeout=20)
        yield process.pid
    finally:
        process.kill()
        process.wait()
        subprocess.run(["ip", "link", "del", "ecst-out0"], check=False, timeout=20)


ANSWER = """
import socket, sys
with socket.create_server(("0.0.0.0", 7000)) as server:
    print("ready", flush=True)
    peer, address = server.accept()
    peer.recv(65536)
    peer.sendall(f"HTTP/1.0 200 OK\\r\\n\\r\\n{address[0]}".encode())
    peer.close()
"""


async def test_the_outside_sees_the_host_and_cannot_come_in(
    host: Host, containers: Containers
) -> None:
    networks = await host.networks()
    network = await networks.claim("arn:a", "eni-a")
    await serve(containers, network)
    with neighbour() as pid:
        await networks.reassert()  # ``run`` would be told of the link
        enter = ["nsenter", "-t", str(pid), "-n"]
        server = await asyncio.create_subprocess_exec(
            *enter, sys.executable, "-c", ANSWER, stdout=asyncio.subprocess.PIPE
        )
        assert server.stdout is not None
        await server.stdout.readline()
        assert await fetch(network, f"http://{OUTSIDE}.2:7000/") == f"{OUTSIDE}.1"
        await server.wait()
        route = ["ip", "route", "add", "10.218.77.0/26", "via", f"{OUTSIDE}.1"]
        await asyncio.to_thread(subprocess.run, [*enter, *route], check=True)
        intruder = await asyncio.to_thread(
            subprocess.run,
            [*enter, sys.executable, "-c", FETCH, f"http://{network.ipv4}/", "1"],
            capture_output=True,
            timeout=20,
        )
        assert b"timed out" in intruder.stderr


SEND = """
import socket, sys
source, target, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind((source, 0))
    sender.sendto(source.encode(), (target, port))
"""


async def test_foreign_source_addresses_are_dropped(host: Host) -> None:
    networks = await host.networks()
    network = await networks.claim("arn:a", "eni-a")
    inside(network, "ip", "addr", "add", "198.51.100.77/32", "dev", "lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((network.gateway, 0))
        receiver.settimeout(5)
        port = str(receiver.getsockname()[1])
        for source in ("198.51.100.77", network.ipv4):
            await asyncio.to_thread(
                inside, network, sys.executable, "-c", SEND, source, network.gateway, port
            )
        assert (await asyncio.to_thread(receiver.recv, 100)).decode() == network.ipv4
