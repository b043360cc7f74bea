"""Sandboxes whose ``eth0`` is an ENI: passes them to ``agent.network.eni``, loaded when one is used.

Every method does nothing for a sandbox without an ENI, so that callers need not distinguish.

Tests: ``tests/integration/network/test_eni.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from agent.errors import NetworkFailure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Executor

    from agent.network.eni.placement import EniPlacement
    from agent.network.kernel.netlink import NetlinkLane
    from agent.network.sandbox_record import SandboxRecord
    from agent.network.settings import NetworkSettings

_log = structlog.get_logger(__name__)


class TaskEnis:
    """The ENIs of sandboxes. Belongs to one event loop."""

    def __init__(self, lane: NetlinkLane, settings: NetworkSettings, files: Executor) -> None:
        self._lane = lane
        self._settings = settings
        self._files = files
        self._made: EniPlacement | None = None

    async def take_over(self, records: Iterable[SandboxRecord]) -> None:
        """Keep the namespaces of living sandboxes that an earlier process left; never fails."""
        for record in records:
            if record.eni is not None:
                try:
                    await self._placement().hold(record)
                except NetworkFailure as error:
                    _log.warning("namespace not held", ipv4=record.ipv4, error=str(error))

    async def place(self, record: SandboxRecord) -> None:
        """Bring a sandbox's ENI into it; raises ``NetworkFailure``. Idempotent."""
        if record.eni is not None:
            await self._placement().place(record, record.eni)

    async def give_back(self, record: SandboxRecord) -> None:
        """Return a sandbox's ENI to the host; raises ``NetworkFailure``. Idempotent."""
        if record.eni is not None:
            await self._placement().give_back(record, record.eni)

    async def serves(self, record: SandboxRecord) -> bool:
        """Return whether a sandbox has its ENI as ordered; raises ``NetworkFailure``."""
        return record.eni is None or await self._placement().serves(record, record.eni)

    def close(self) -> None:
        """Close everything; ENIs stay in their sandboxes. Idempotent."""
        if self._made is not None:
            self._made.close()

    def _placement(self) -> EniPlacement:
        if self._made is None:
            from agent.network.eni.placement import EniPlacement  # noqa: PLC0415 - few hosts have ENIs

            self._made = EniPlacement(self._lane, self._settings, self._files)
        return self._made
