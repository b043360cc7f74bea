"""One client that asks without a pause costs the agent little, and others nothing.

What a flood costs is measured as CPU time of this process, which serves; the flood comes from another one. So the
result does not depend on what else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

import aiohttp

from agent.task_endpoint.contract import Call, Route, answer
from agent.task_endpoint.throttle import RequestRate
from tests.unit.task_endpoint.conftest import HOST, Serve

FLOOD_S = 3.0
CONNECTIONS = 200
"""Each is answered and asks again: refusals are slowed down, so it takes many to ask 1,000 times a second."""
FLOOD = """
import asyncio, collections, json, sys, time

async def ask(port, end, seen):
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while time.monotonic() < end:
                writer.write(b"GET /v4/flood HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                seen["sent"] += 1
                head = await reader.readuntil(b"\\r\\n\\r\\n")
                seen[head.split()[1].decode()] += 1
                size = int(head.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError):
            seen["cut"] += 1
            await asyncio.sleep(0.001)

async def main(port, seconds, connections):
    seen, end = collections.Counter(), time.monotonic() + seconds
    print(flush=True)
    await asyncio.gather(*(ask(port, end, seen) for _ in range(connections)))
    print(json.dumps(seen))

asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
"""


async def found(_call: Call) -> aiohttp.web.Response:
    return answer({})


async def test_a_flood_costs_little_and_others_nothing(serve: Serve) -> None:
    routes, rate = [Route(r"/v4/.*", found)], RequestRate()
    counts: Counter[tuple[str, int]] = Counter()
    async with serve(routes, rate=rate, counts=counts) as asked:
        flood = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FLOOD, str(asked.port), str(FLOOD_S), str(CONNECTIONS)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert flood.stdout is not None
        await flood.stdout.readline()
        spent_s, began_s = time.process_time(), time.monotonic()
        others: list[int] = []
        # Another address, and so another client.
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            while time.monotonic() < began_s + FLOOD_S - 0.5:
                async with session.get(f"http://{HOST}:{asked.port}/v4/flood") as said:
                    others.append(said.status)
                await asyncio.sleep(0.1)
        seen = json.loads(await flood.stdout.readline())
        spent_s, lasted_s = time.process_time() - spent_s, time.monotonic() - began_s
        await flood.wait()
    refused = seen["429"]
    assert seen.keys() <= {"sent", "cut", "200", "429"}, seen
    assert seen["200"] <= rate.burst + rate.per_s * lasted_s + 1, "the limit of one client"
    assert refused > 50, seen
    assert set(others) == {200}, "another client asked for the same path"
    assert counts["v4", 429] == refused
    assert spent_s / seen["sent"] < 0.003, (spent_s, lasted_s, seen)
