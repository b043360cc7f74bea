"""An operator who runs and stops tasks, over control's Unix socket: there, calls need no signature, which would cost
the simulator more than everything else."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from tests.bench.fleet.wire import Pool, request
from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LINES: Final = 16
"""Connections."""
BATCH: Final = 10
"""Tasks of one order, the most that RunTask takes."""
SIDE_BY_SIDE: Final = 4
"""Orders of batches that are under way at once."""
_FAMILY: Final = "web"
_encode = msgspec.json.Encoder().encode


class Ordered(NamedTuple):
    """Orders that were given."""

    at: dict[str, float]
    """When the order of each task was sent, by ARN; monotonic seconds."""
    took_s: float
    """From the first order to the answer to the last."""
    slowest_s: float
    """How long the slowest answer took."""


class Operator:
    """One operator."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._pool = Pool()

    async def open(self) -> None:
        """Connect, and register the task definition."""
        self._pool.open(LINES, path=str(self._socket))
        await self.call("CreateCluster", {})
        small = {"name": "main", "image": "img", "cpu": 64, "memory": 64}
        await self.call("RegisterTaskDefinition", definition(containerDefinitions=[small]))

    def close(self) -> None:
        """Disconnect."""
        self._pool.close()

    async def call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make one call of the ECS API."""
        headers = (
            f"X-Amz-Target: AmazonEC2ContainerServiceV20141113.{operation}\r\n"
            "Content-Type: application/x-amz-json-1.1\r\n"
        )
        status, answer = await self._pool.call(request("POST", "/", headers, _encode(body)))
        assert status == 200, (operation, answer)
        told: dict[str, Any] = msgspec.json.decode(answer)
        return told

    async def at_rate(self, orders: int, per_s: float) -> Ordered:
        """Run single tasks at a rate, whether the orders before are answered or not."""
        at: dict[str, float] = {}
        slowest = 0.0
        began = time.monotonic()

        async def one() -> None:
            nonlocal slowest
            sent = time.monotonic()
            for arn in await self._run(1):
                at[arn] = sent
            slowest = max(slowest, time.monotonic() - sent)

        async with asyncio.TaskGroup() as group:
            for number in range(orders):
                await asyncio.sleep(began + number / per_s - time.monotonic())
                group.create_task(one())
        return Ordered(at, time.monotonic() - began, slowest)

    async def in_batches(
        self,
        tasks: int,
        strategy: Sequence[dict[str, str]] = (),
        *,
        side_by_side: int = SIDE_BY_SIDE,
    ) -> Ordered:
        """Run tasks in batches as fast as they are placed."""
        at: dict[str, float] = {}
        slowest = 0.0
        left = iter(range(tasks // BATCH))
        began = time.monotonic()

        async def some() -> None:
            nonlocal slowest
            for _ in left:
                sent = time.monotonic()
                for arn in await self._run(BATCH, strategy):
                    at[arn] = sent
                slowest = max(slowest, time.monotonic() - sent)

        async with asyncio.TaskGroup() as group:
            for _ in range(side_by_side):
                group.create_task(some())
        return Ordered(at, time.monotonic() - began, slowest)

    async def stop(self, arns: Sequence[str]) -> None:
        """Stop tasks."""
        left = iter(arns)

        async def some() -> None:
            for arn in left:
                await self.call("StopTask", {"task": arn})

        async with asyncio.TaskGroup() as group:
            for _ in range(SIDE_BY_SIDE):
                group.create_task(some())

    async def _run(self, count: int, strategy: Sequence[dict[str, str]] = ()) -> list[str]:
        asked = {"taskDefinition": _FAMILY, "count": count, "placementStrategy": list(strategy)}
        told = await self.call("RunTask", asked)
        assert len(told["tasks"]) == count, told["failures"][:3]
        return [task["taskArn"] for task in told["tasks"]]
