"""Task networks without a kernel, for tests of what shows and checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model.network_views import (
    DifferenceView,
    NetworkCheckView,
    NetworkView,
    TraceView,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class FakeNetwork:
    """Task networks with knobs."""

    def __init__(self) -> None:
        self.shown = NetworkView()
        self.found = ["bridge ecs-br0 was down", "link ecs0acf0002 was gone"]
        self.cannot_repair: list[str] = []
        self.repairs: list[bool] = []
        self.error: Exception | None = None
        self.traced: list[tuple[str, Sequence[str], str, int, str]] = []
        self.trace_view = TraceView(
            source="10.207.0.2", peer="10.0.0.9", port=80, protocol="tcp", answer="connected",
            dropped_by=None,
        )  # fmt: skip

    async def view(self) -> NetworkView:
        if self.error is not None:
            raise self.error
        return self.shown

    async def check(self, *, repair: bool) -> NetworkCheckView:
        self.repairs.append(repair)
        return NetworkCheckView(
            repair=repair,
            differences=[
                DifferenceView(found=text, repaired=repair and text not in self.cannot_repair)
                for text in self.found
            ],
        )

    async def trace(
        self, task_arn: str, runtime_ids: Sequence[str], *, peer: str, port: int, protocol: str
    ) -> TraceView:
        self.traced.append((task_arn.rpartition("/")[2], runtime_ids, peer, port, protocol))
        return self.trace_view
