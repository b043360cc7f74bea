"""Task networks without a kernel, for tests of what shows and checks them."""

from __future__ import annotations

from agent.model.network_views import DifferenceView, NetworkCheckView, NetworkView


class FakeNetwork:
    """Task networks with knobs."""

    def __init__(self) -> None:
        self.shown = NetworkView()
        self.found = ["bridge ecs-br0 was down", "link ecs0acf0002 was gone"]
        self.cannot_repair: list[str] = []
        self.repairs: list[bool] = []
        self.error: Exception | None = None

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
