"""Tells control what tasks use, while it is connected; what was gathered while it is away is dropped.

Never blocks its callers: samples are gathered into sets (``usage_series``), and a loop of its own sends
them. A control that does not know the call is asked again an hour later.

Tests: ``tests/unit/upstream/longpoll/test_usage_sender.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import ControlFailure
from agent.upstream.longpoll.answers import CallUnknown
from agent.upstream.longpoll.usage_series import UsageSeries

if TYPE_CHECKING:
    from agent.model.metrics import MetricsBatch
    from agent.upstream.connection import ConnectionStatus
    from agent.upstream.longpoll.http_client import HttpClient
    from agent.upstream.longpoll.registration import LongPollRegistration

SEND_S: Final = 20.0
"""As often as Amazon's agent publishes its metrics."""
UNKNOWN_S: Final = 3600.0
"""How long a control that does not know the call is left alone: it may be replaced by a newer one."""

_log = structlog.get_logger()


class UsageSender:
    """Sends to one control endpoint; for one event loop."""

    def __init__(
        self,
        client: HttpClient,
        registration: LongPollRegistration,
        link: ConnectionStatus,
        *,
        send_s: float = SEND_S,
        unknown_s: float = UNKNOWN_S,
    ) -> None:
        self._client = client
        self._registration = registration
        self._link = link
        self._send_s = send_s
        self._unknown_s = unknown_s
        self._series = UsageSeries()

    def offer(self, batch: MetricsBatch) -> None:
        """Gather one round of the sampler. Returns at once."""
        self._series.take(batch)

    async def run(self) -> None:
        """Send at a fixed interval until cancelled; a failure drops what was to be sent."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._send_s
        while True:
            await asyncio.sleep(due_s - loop.time())
            usage = self._series.tell()
            due_s = max(due_s + self._send_s, loop.time())
            if not self._link.connected or usage.host is None:
                continue
            identity = await self._registration.identity()
            try:
                await self._client.usage(identity, usage)
            except CallUnknown:
                _log.info("control is older than this agent, and takes no metrics of tasks")
                due_s = loop.time() + self._unknown_s
            except ControlFailure:
                pass  # the poll reports it, and newer figures follow
