"""What is broken in an etcd fleet: controls and nodes of etcd are killed, stopped and filled, one after the other."""

from __future__ import annotations

import asyncio
import base64
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.chaos.etcd_clients import Caller
    from tests.support import etcd_nodes
    from tests.support.fleet import Control


class Faults:
    """Breaks one thing after the other."""

    def __init__(
        self, cluster: etcd_nodes.Etcd, controls: list[Control], caller: Caller, seed: int
    ) -> None:
        self._cluster = cluster
        self._controls = controls
        self._caller = caller
        self._source = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.away_s: list[float] = []
        """How long control was away each time that the one that led was killed."""

    async def supervise(self) -> None:
        """Start controls that have ended by themselves again, as their service does."""
        while True:
            await asyncio.sleep(0.5)
            for control in self._controls:
                if control.popen is not None and not control.is_alive():
                    self.done["control started again"] += 1
                    await asyncio.sleep(2)
                    control.start()

    async def run(self, until: float) -> None:
        """Break things until a time, and leave nothing broken."""
        kinds: list[Callable[[], Awaitable[None]]]
        kinds = [self.kill_control, self.kill_node, self.kill_leader, self.stop_node, self.fill]
        while time.monotonic() < until:
            await asyncio.sleep(self._source.uniform(3, 8))
            kind = self._source.choice(kinds)
            began = time.monotonic()
            await kind()
            self.done[kind.__name__] += 1
            sys.stderr.write(
                f"{time.strftime('%H:%M:%S')} {kind.__name__}: {time.monotonic() - began:.1f} s\n"
            )

    async def kill_control(self) -> None:
        """Kill the control that leads; it comes back and stands by."""
        leading = await asyncio.to_thread(self._leading)
        await asyncio.to_thread(leading.kill)
        began = time.monotonic()
        await asyncio.sleep(1)
        leading.start()
        while not await self._caller.answers():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.05)
        self.away_s.append(time.monotonic() - began)

    async def kill_node(self) -> None:
        """Kill a node of etcd."""
        await self._killed(self._source.choice(self._cluster.nodes))

    async def kill_leader(self) -> None:
        """Kill the node of etcd that leads."""
        await self._killed(await asyncio.to_thread(self._cluster.leader))

    async def _killed(self, node: etcd_nodes.EtcdNode) -> None:
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(self._source.uniform(0.5, 3))
        node.start()
        await asyncio.to_thread(node.wait_until_up)

    async def stop_node(self) -> None:
        """Have a node of etcd hang."""
        node = self._source.choice(self._cluster.nodes)
        node.stop()
        await asyncio.sleep(self._source.uniform(1, 5))
        node.go_on()

    async def fill(self) -> None:
        """Fill etcd with keys of somebody else, who then deletes them."""
        node = await asyncio.to_thread(self._cluster.leader)
        url = f"http://{node.host}/v3/kv"
        for number in range(200):
            body = {"key": _b64(f"/junk/{number}"), "value": _b64("x" * 700_000)}
            status, _ = await self._post(f"{url}/put", body)
            if status != 200:
                break
        await asyncio.sleep(2)
        for _ in range(20):
            status, _ = await self._post(
                f"{url}/deleterange", {"key": _b64("/junk/"), "range_end": _b64("/junk0")}
            )
            if status == 200:
                return
            await asyncio.sleep(0.5)

    async def _post(self, url: str, body: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with self._caller.session.post(url, json=body) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, b""

    def _leading(self) -> Control:
        """Return the control that serves: the one that has said so since its last start."""
        return next((one for one in self._controls if _serves(one)), self._controls[0])


def _serves(control: Control) -> bool:
    text = control.log.read_text(errors="replace")
    return text.rfind("control endpoint ready") > text.rfind("standing by")


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
