"""Calls of etcd that one store makes: refused once it is closed, waited for while it closes; keeps its last problem.

Tests: ``tests/unit/controlplane/store``, ``tests/integration/controlplane/test_etcd_faults.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.controlplane.store.contract import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.controlplane.store.etcd_client import EtcdClient

AnswerT = TypeVar("AnswerT")

_CLOSE_S: Final = 5.0


class Calls:
    """For one event loop."""

    def __init__(self, client: EtcdClient) -> None:
        self.client = client
        self.problem = ""
        """Why the last call was not answered; empty if it was."""
        self.is_closed = False
        self._running: set[asyncio.Task[Any]] = set()

    def check_open(self) -> None:
        """Raise ``StoreUnavailable`` if the store is closed."""
        if self.is_closed:
            raise StoreUnavailable("the store is closed")

    async def read(
        self, path: str, body: dict[str, Any], kind: type[AnswerT], *, urgent: bool = False
    ) -> AnswerT:
        """See ``EtcdClient.read``."""
        self.check_open()
        async with self._noted():
            return await self.client.read(path, body, kind, urgent=urgent)

    async def change(
        self, path: str, body: dict[str, Any], kind: type[AnswerT], *, urgent: bool = False
    ) -> AnswerT:
        """See ``EtcdClient.change``."""
        self.check_open()
        async with self._noted():
            return await self.client.change(path, body, kind, urgent=urgent)

    async def wait_closed(self) -> None:
        """Wait for the calls that were accepted; ``is_closed`` must be set."""
        if self._running:
            await asyncio.wait(self._running, timeout=_CLOSE_S)

    @contextlib.asynccontextmanager
    async def _noted(self) -> AsyncIterator[None]:
        """Count a call as accepted, and keep its failure as the problem."""
        task = asyncio.current_task()
        is_outer = task is not None and task not in self._running
        if task is not None and is_outer:
            self._running.add(task)
        try:
            yield
        except StoreUnavailable as error:
            self.problem = str(error)
            raise
        else:
            self.problem = ""
        finally:
            if task is not None and is_outer:
                self._running.discard(task)
