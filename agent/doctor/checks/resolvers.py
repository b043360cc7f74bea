"""Name servers: which ones tasks can reach, and whether they answer.

A task's namespace has its own loopback, so a task cannot reach a server on the host's loopback
(systemd-resolved, dnsmasq).
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import msgspec

from agent.doctor.findings import Finding, FindingList

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.doctor.host import HostFacts

FILES = (
    "etc/resolv.conf",
    "run/systemd/resolve/resolv.conf",
    "run/NetworkManager/no-stub-resolv.conf",
    "run/dnsmasq/resolv.conf",
    "run/resolvconf/resolv.conf",
)
"""The files that the agent reads (``network.names.resolvers``)."""
_QUERY = bytes.fromhex("ec51010000010000000000000000020001")
"""Asks for the root name servers, which every resolver knows."""
_ANSWER_S = 2.0
_TRIES = 2
_SETTING = "ECS_TASK_DNS_SERVERS"


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """The name servers of the host."""

    chosen: tuple[str, ...] = ()
    """From ``ECS_TASK_DNS_SERVERS``."""
    usable: tuple[str, ...] = ()
    """From the host's files, as far as tasks can reach them."""
    unusable: tuple[str, ...] = ()


async def check(host: HostFacts) -> list[Finding]:
    """Find the servers that tasks will use, and send each of them a query."""
    texts = [await host.text(path) for path in FILES]
    servers = choose(host.settings.task_dns_servers, texts)
    asked = servers.chosen or servers.usable
    async with asyncio.TaskGroup() as group:
        answers = {server: group.create_task(answers_at(server)) for server in asked}
    return judge(servers, {server: task.result() for server, task in answers.items()})


def choose(chosen: Sequence[str], texts: Sequence[str]) -> Servers:
    """Return the servers for tasks, chosen like the agent chooses them. Pure.

    Args:
        chosen: the servers in the settings, which win.
        texts: files in the format of ``resolv.conf``; the first with a usable server is used.
    """
    unusable: list[str] = []
    for text in texts:
        servers = [
            words[1]
            for line in text.splitlines()
            if len(words := line.split("#", 1)[0].split()) > 1 and words[0] == "nameserver"
        ]
        usable = tuple(server for server in servers if _reachable(server))
        unusable += [server for server in servers if server not in usable]
        if usable:
            break
    else:
        usable = ()
    return Servers(chosen=tuple(chosen), usable=usable, unusable=tuple(dict.fromkeys(unusable)))


def _reachable(server: str) -> bool:
    try:
        address = IPv4Address(server)
    except ValueError:
        return False
    return not address.is_loopback and not address.is_unspecified


async def answers_at(server: str) -> bool:
    """Tell whether a name server answers a query over UDP within two tries."""
    for _ in range(_TRIES):
        try:
            async with asyncio.timeout(_ANSWER_S):
                if await _ask(server):
                    return True
        except (TimeoutError, OSError):
            continue
    return False


async def _ask(server: str) -> bool:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    class Wire(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _address: tuple[str | object, int]) -> None:
            if data[:2] == _QUERY[:2] and not answer.done():
                answer.set_result(True)

        def error_received(self, _error: Exception) -> None:
            if not answer.done():
                answer.set_result(False)

    transport, _ = await loop.create_datagram_endpoint(Wire, remote_addr=(server, 53))
    try:
        transport.sendto(_QUERY)
        return await answer
    finally:
        transport.close()


def judge(servers: Servers, answers: Mapping[str, bool]) -> list[Finding]:
    """Return the verdict; ``answers`` says which servers answered. Pure."""
    verdict = FindingList("dns")
    asked = servers.chosen or servers.usable
    if not asked:
        _judge_none(verdict, servers)
        return verdict.findings
    local = [server for server in servers.chosen if not _reachable(server)]
    for server in local:
        verdict.error(
            f"{_SETTING} names {server}, which is not reachable from inside a task",
            "use name servers with IPv4 addresses that are not loopback addresses",
            f"echo '{_SETTING}=[\"ADDRESS\"]' >> /etc/ecs/ecs.config",
        )
    silent = [s for s in asked if s not in local and not answers.get(s, False)]
    working = [s for s in asked if s not in local and s not in silent]
    for server in silent:
        verdict.warn(
            f"the name server {server} does not answer: every lookup in a task waits for it",
            f"fix the server or the network to it, or set {_SETTING} to other servers",
            f"ping -c 1 {server}",
        )
    if working:
        origin = f"from {_SETTING}" if servers.chosen else "from the host"
        verdict.ok(f"name servers for tasks ({origin}) answer: {', '.join(working)}")
    return verdict.findings


def _judge_none(verdict: FindingList, servers: Servers) -> None:
    why = "there is none in /etc/resolv.conf"
    if servers.unusable:
        why = f"{', '.join(servers.unusable)} cannot be reached from inside a task"
    verdict.warn(
        f"tasks in awsvpc mode will have no name server: {why}",
        f"set {_SETTING} to name servers that tasks can reach",
        f"echo '{_SETTING}=[\"ADDRESS\"]' >> /etc/ecs/ecs.config",
    )
