"""What the identities of 200 hosts cost a control process: joining, renewing and coming back, over TLS.

The process is started as a user starts it. The hosts are simulated here, each with its own connection, key and certificate;
what they cost themselves is not counted.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from agent.controlplane.agents import bindings
from agent.controlplane.agents.bindings import Shown
from agent.controlplane.pki import names
from agent.model.resources import HostResources
from agent.model.wire import (
    CONTROL_NAME,
    GENERATION_HEADER,
    HOST_KEY_HEADER,
    SESSION_HEADER,
    HostIdentity,
    Register,
    Registered,
)
from agent.upstream.certificates import key_pair
from tests.bench.floor import cpu_seconds
from tests.bench.measures import Row
from tests.support.fleet import TOKEN, Control, free_port, give_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTS: Final = 200
PHASE_S: Final = 60.0
"""Over how long all hosts do one thing: the time of a lease, in which hosts come back after a cut without being missed. A host
joins once and renews every twenty days."""
MEAN_LIMIT: Final = 0.05
"""Of a core."""
CALL_LIMIT_S: Final = 0.001
_CHECKS: Final = 20_000
_encode = msgspec.json.Encoder().encode


class SimulatedHost:
    """One host with an identity."""

    def __init__(self, url: str, directory: Path, index: int, authority: str) -> None:
        self._url = url
        self._file = directory / f"host-{index}.pem"
        self._index = index
        self._authority = authority
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}
        self._id = ""

    async def join(self) -> None:
        """Get a certificate by the token, and register with it."""
        await self._connect({"Authorization": f"Bearer {TOKEN}"})
        await self._certify()
        await self.reconnect()
        call = Register(
            cluster="default",
            client_token=f"host-{self._index}",
            process_id=f"process-{self._index}",
            resources=HostResources(cpu_units=4096, memory_mib=8192, boot_id=f"b{self._index}"),
        )
        headers = {HOST_KEY_HEADER: f"{self._index:064}"}
        raw = await self._post("v1/instances", _encode(call), headers)
        told = msgspec.json.decode(raw, type=Registered)
        self._id = told.instance_arn.rpartition("/")[2]
        self._headers = headers | {
            GENERATION_HEADER: str(told.generation),
            SESSION_HEADER: told.session,
        }
        await self.poll()

    async def renew(self) -> None:
        """Have the certificate renewed."""
        await self._certify()

    async def reconnect(self) -> None:
        """Come back over a new connection."""
        await self._connect({})
        if self._id:
            await self.poll()

    async def poll(self) -> None:
        """Ask for orders once."""
        assert self._session is not None
        path = f"v1/instances/{self._id}/assignments?after=0&wait=0"
        async with self._session.get(
            f"{self._url}/{path}", headers=self._headers, server_hostname=CONTROL_NAME
        ) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()

    async def _certify(self) -> None:
        pair = await asyncio.to_thread(key_pair.make)
        raw = await self._post("v1/identities", _encode({"request": pair.request}), {})
        issued = msgspec.json.decode(raw, type=HostIdentity)
        await asyncio.to_thread(self._file.write_text, pair.key + issued.certificate)

    async def _connect(self, headers: dict[str, str]) -> None:
        await self.close()
        context = ssl.create_default_context(cadata=self._authority)
        if not headers:
            await asyncio.to_thread(context.load_cert_chain, self._file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context), headers=headers
        )

    async def _post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        assert self._session is not None
        async with self._session.post(
            f"{self._url}/{path}", data=body, headers=headers, server_hostname=CONTROL_NAME
        ) as answer:
            raw = await answer.read()
            assert answer.status == 200, raw
            return raw


async def measured(directory: Path, say: Callable[[str], None]) -> list[Row]:
    """Return the rows."""
    port, of_agents = free_port(), free_port()
    words = ["control", "--listen", f"127.0.0.1:{port}", "--agent-listen", f"127.0.0.1:{of_agents}"]
    words += ["--tls", "--data-dir", str(directory / "control")]
    control = Control(name="control", arguments=words, directory=directory, port=port)
    await asyncio.to_thread(give_keys, directory / "control")
    await asyncio.to_thread(control.start)
    try:
        await asyncio.to_thread(control.ready)
        return await _rows(control, f"https://127.0.0.1:{of_agents}", directory, say)
    finally:
        await asyncio.to_thread(control.stop)


async def _rows(
    control: Control, url: str, directory: Path, say: Callable[[str], None]
) -> list[Row]:
    authority = await asyncio.to_thread((directory / "control/pki/trusted.pem").read_text)
    hosts = [SimulatedHost(url, directory, index, authority) for index in range(HOSTS)]
    rows, total_s = [], 0.0
    for what, act in (
        ("join", SimulatedHost.join),
        ("renew their certificates", SimulatedHost.renew),
        ("come back", SimulatedHost.reconnect),
    ):
        before = cpu_seconds(control.pid)
        async with asyncio.TaskGroup() as group:
            for host in hosts:
                group.create_task(_later(act, host))
        spent_s = cpu_seconds(control.pid) - before
        total_s += spent_s
        say(f"{HOSTS} hosts {what}: {spent_s:.2f} s")
        told = f"{spent_s / HOSTS * 1000:.1f} ms of CPU each"
        rows.append(Row(f"{HOSTS} hosts {what} within {PHASE_S:g} s", told))
    for host in hosts:
        await host.close()
    mean = total_s / (3 * PHASE_S)
    check_s = _check_s()
    return [
        *rows,
        Row(
            "all of that, of a core in the mean",
            f"{mean:.1%}",
            limit=f"{MEAN_LIMIT:.0%}",
            holds=mean < MEAN_LIMIT,
        ),
        Row(
            "what a call pays for knowing its host",
            f"{check_s * 1e6:.1f} µs",
            limit=f"{CALL_LIMIT_S * 1000:g} ms",
            holds=check_s < CALL_LIMIT_S,
        ),
    ]


async def _later(act: Callable[[SimulatedHost], object], host: SimulatedHost) -> None:
    await asyncio.sleep(random.uniform(0, PHASE_S))
    await act(host)  # type: ignore[misc]


def _check_s() -> float:
    """Return how long the checks of one call take: certificate, key, session and binding."""
    peer = {"subjectAltName": (("URI", names.uri_of("a" * 32)),), "serialNumber": "0A"}
    began = time.perf_counter()
    for _ in range(_CHECKS):
        shown = Shown(
            key=bindings.key_of("k" * 64),
            host=names.host_of(peer),
            session=bindings.session_of("s" * 32),
        )
        bindings.verdict(f"host:{'a' * 32}", shown)
    return (time.perf_counter() - began) / _CHECKS
