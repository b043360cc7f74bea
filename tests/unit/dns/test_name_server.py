"""The server over real sockets: own names, names of others, name servers that do not answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from agent.dns.server import OF_ONE_MOST, NameServer
from agent.dns.zones import Zones
from agent.model.names import Alias, NamedInstance, NameUpdates, TaskName
from tests.support.dns_messages import query, read_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

LIMIT_S = 40.0


class Upstream(asyncio.DatagramProtocol):
    """A name server that answers everything with what it got, as an answer."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.asked: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked.append(data)
        self.transport.sendto(data[:2] + b"\x81\x80" + data[4:], addr)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: made, local_addr=("127.0.0.1", 0))
    yield made
    made.transport.close()


def address(upstream: Upstream) -> tuple[str, int]:
    found: tuple[str, int] = upstream.transport.get_extra_info("sockname")
    return found


def a_port_where_nobody_listens() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def served(
    *servers: tuple[str, int], namespaces: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[NameServer]:
    zones = Zones()
    instance = NamedInstance(id="t", ipv4="10.0.0.1")
    name = TaskName(name="web.shop.internal", ttls={"A": 1}, instances=(instance,))
    alias = Alias(namespace="ns-a", name="web", instances=(instance,))
    zones.apply(NameUpdates(zones={"shop.internal": 1}, names=[name], aliases=[alias], full=True))
    server = await NameServer.open(
        zones,
        lambda _peer: servers,
        lambda peer: namespaces.get(peer, ""),
        host="127.0.0.1",
        port=0,
    )
    try:
        yield server
    finally:
        await server.close()


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        self.answers.put_nowait(data)


async def exchange(server: NameServer, *questions: bytes) -> list[bytes]:
    """Return as many answers as there are questions, in the order in which they come."""
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_datagram_endpoint(
        Client, remote_addr=("127.0.0.1", server.port)
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            for question in questions:
                transport.sendto(question)
            return [await client.answers.get() for _ in questions]
    finally:
        transport.close()


async def test_own_names_and_those_of_others(upstream: Upstream) -> None:
    async with served(address(upstream)) as server:
        (answer,) = await exchange(server, query("web.shop.internal"))
        assert [each.data for each in read_response(answer).answers] == ["10.0.0.1"]
        assert upstream.asked == []
        other = query("example.com", id_=1234)
        (answer,) = await exchange(server, other)
        assert read_response(answer).id == 1234
        (asked,) = upstream.asked
        assert asked[2:] == other[2:], "only the id is another one"


async def test_an_alias_is_answered_by_the_address_that_asks(upstream: Upstream) -> None:
    async with served(address(upstream), namespaces={"127.0.0.1": "ns-a"}) as server:
        (answer,) = await exchange(server, query("web"))
        assert [each.data for each in read_response(answer).answers] == ["10.0.0.1"]
        assert upstream.asked == []
    async with served(address(upstream), namespaces={"127.0.0.2": "ns-a"}) as server:
        await exchange(server, query("web"))
        assert len(upstream.asked) == 1, "to others it is a name like any other"


async def test_many_at_once_get_their_own_answers(upstream: Upstream) -> None:
    async with served(address(upstream)) as server:
        answers = await exchange(server, *(query(f"n{n}.com", id_=n) for n in range(50)))
        for answer in answers:
            number = read_response(answer).id
            assert answer[12:].startswith(bytes([len(f"n{number}")]) + f"n{number}".encode())


async def test_a_name_server_that_is_gone_is_passed_over(upstream: Upstream) -> None:
    gone = ("127.0.0.1", a_port_where_nobody_listens())
    async with served(gone, address(upstream)) as server:
        (answer,) = await exchange(server, query("example.com"))
        assert read_response(answer).id == 4711


async def test_one_that_asks_without_end_does_not_silence_the_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        async with served(silent.getsockname()) as server:
            loop = asyncio.get_running_loop()
            transport, client = await loop.create_datagram_endpoint(
                Client, remote_addr=("127.0.0.1", server.port)
            )
            for number in range(OF_ONE_MOST + 20):
                transport.sendto(query(f"n{number}.com"))
            transport.sendto(query("web.shop.internal"))
            async with asyncio.timeout(LIMIT_S):
                answer = await client.answers.get()
            assert len(read_response(answer).answers) == 1
            assert len(server._asked) <= OF_ONE_MOST
            transport.close()


async def test_damaged_datagrams_end_nothing(upstream: Upstream) -> None:
    async with served() as server:
        # Nobody is there to pass them on to: they are dropped.
        await exchange(server, query("web.shop.internal"))
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_datagram_endpoint(
            Client, remote_addr=("127.0.0.1", server.port)
        )
        for data in (b"", b"\0", b"\xff" * 40, query("example.com"), query("web.shop.internal")):
            transport.sendto(data)
        async with asyncio.timeout(LIMIT_S):
            answer = await client.answers.get()
        assert [each.data for each in read_response(answer).answers] == ["10.0.0.1"]
        assert client.answers.empty()
        transport.close()
    assert upstream.asked == []
