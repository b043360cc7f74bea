"""What an idle minute costs a control process to which a thousand hosts are connected.

The process is started as a user starts it, on a store that has the hosts, the services and their tasks. The agents are
simulated in this process: each holds a long poll over its own connection, as real ones do.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
import msgspec

from agent.model.statistics import StatisticSet
from agent.model.usage import HostUsage, TaskUsage, Usage
from agent.model.wire import GENERATION_HEADER, Assignments
from agent.upstream.longpoll.usage_sender import SEND_S
from tests.bench.floor import cpu_seconds, pss_mib
from tests.bench.measures import Row
from tests.support.fleet import TOKEN, Control, free_port, give_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MINUTE_S: Final = 60.0
WAIT_S: Final = 30.0
"""How long an agent lets control hold a poll."""
QUIET_LIMIT_S: Final = 9.0
TELLING_LIMIT_S: Final = 20.0
"""Half as much again as on the machine of ``docs/benchmarks.md``."""
_SETTLE_S: Final = 75.0
"""After the start: the janitor's first round, the first polls and the first minute of figures are over."""
_MIB: Final = 1024 * 1024

_HEADERS: Final = {GENERATION_HEADER: "1", "Authorization": f"Bearer {TOKEN}"}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Assignments).decode


class Minute(NamedTuple):
    """What one minute cost."""

    cpu_s: float
    calls: int


class Hosts:
    """The simulated agents of all hosts."""

    def __init__(self, url: str, ids: Sequence[str]) -> None:
        self._url = url
        self._ids = ids
        self._tasks: dict[str, list[str]] = {}
        """ARNs by instance id."""
        self.tells_usage = False
        self.calls = 0

    async def run(self) -> None:
        """Poll and report for ever."""
        connector = aiohttp.TCPConnector(limit=0)
        limit = aiohttp.ClientTimeout(total=3 * WAIT_S)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit) as session,
            asyncio.TaskGroup() as group,
        ):
            for id_ in self._ids:
                group.create_task(self._poll(session, id_))
                group.create_task(self._tell(session, id_))

    @property
    def are_told(self) -> bool:
        """Whether every host has got its tasks."""
        return len(self._tasks) == len(self._ids)

    async def _poll(self, session: aiohttp.ClientSession, id_: str) -> None:
        after, url = 0, f"{self._url}/v1/instances/{id_}/assignments"
        await asyncio.sleep(random.uniform(0, WAIT_S / 2))
        while True:
            query = {"after": str(after), "wait": f"{WAIT_S:g}", "credentials": "0"}
            async with session.get(url, params=query, headers=_HEADERS) as answer:
                assert answer.status in (200, 204), await answer.text()
                self.calls += 1
                if answer.status == 200:
                    told = _decode(await answer.read())
                    after = told.revision
                    self._tasks[id_] = [task.task_arn for task in told.tasks]

    async def _tell(self, session: aiohttp.ClientSession, id_: str) -> None:
        url = f"{self._url}/v1/instances/{id_}/usage"
        await asyncio.sleep(random.uniform(0, SEND_S))
        while True:
            if self.tells_usage:
                body = _encode(_usage(self._tasks.get(id_, ())))
                async with session.post(url, data=body, headers=_HEADERS) as answer:
                    assert answer.status == 204, await answer.text()
                self.calls += 1
            await asyncio.sleep(SEND_S)


def _usage(tasks: Sequence[str]) -> Usage:
    cpu, memory = StatisticSet(1.0, 2.0, 30.0, 20), StatisticSet(5e6, 6e6, 1.1e8, 20)
    return Usage(
        host=HostUsage(
            cpu_units=cpu,
            memory_used_bytes=memory,
            memory_total_bytes=64_000 * _MIB,
            disk_used_bytes=memory,
            disk_total_bytes=64_000 * _MIB,
        ),
        tasks=[
            TaskUsage(
                task_arn=arn, cpu_units=cpu, memory_bytes=memory, read_bytes=0, written_bytes=0
            )
            for arn in tasks
        ],
    )


async def idle_minute(directory: Path, ids: Sequence[str], say: Callable[[str], None]) -> list[Row]:
    """Return the rows of a control that is started on the store of the directory."""
    port = free_port()
    arguments = ["control", "--listen", f"127.0.0.1:{port}", "--data-dir", str(directory)]
    control = Control(name="control", arguments=arguments, directory=directory, port=port)
    give_keys(directory)
    control.start()
    try:
        await asyncio.to_thread(control.ready)
        hosts = Hosts(control.url, ids)
        agents = asyncio.create_task(hosts.run())
        try:
            return await _measured(control, hosts, say)
        finally:
            agents.cancel()
            await asyncio.wait({agents})
    finally:
        await asyncio.to_thread(control.stop)


async def _measured(control: Control, hosts: Hosts, say: Callable[[str], None]) -> list[Row]:
    await asyncio.sleep(_SETTLE_S)
    assert hosts.are_told, f"not every host has got its tasks:\n{control.tail()}"
    quiet = await _minute(control, hosts)
    say(f"a minute of polls: {quiet}")
    hosts.tells_usage = True
    await asyncio.sleep(MINUTE_S)
    telling = await _minute(control, hosts)
    say(f"a minute of polls and figures: {telling}")
    return [
        Row(
            "a minute of control with all of it idle, hosts only poll: CPU",
            f"{quiet.cpu_s:.1f} s ({quiet.calls} calls)",
            limit=f"≤ {QUIET_LIMIT_S:g} s",
            holds=quiet.cpu_s <= QUIET_LIMIT_S,
        ),
        Row(
            f"the same, and hosts tell the figures of their tasks each {SEND_S:g} s: CPU",
            f"{telling.cpu_s:.1f} s ({telling.calls} calls)",
            limit=f"≤ {TELLING_LIMIT_S:g} s",
            holds=telling.cpu_s <= TELLING_LIMIT_S,
        ),
        Row("memory (PSS) of this control", f"{pss_mib(control.pid):.0f} MiB"),
    ]


async def _minute(control: Control, hosts: Hosts) -> Minute:
    began_s, calls, until = cpu_seconds(control.pid), hosts.calls, time.monotonic() + MINUTE_S
    await asyncio.sleep(until - time.monotonic())
    return Minute(cpu_seconds(control.pid) - began_s, hosts.calls - calls)
