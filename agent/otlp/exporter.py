"""Sends metrics to a collector by OTLP/HTTP: a timer makes requests, a bounded queue holds those not taken.

A collector that is away or busy gets the oldest request again, with growing waits or after the time that it
asks for. A queue that is full loses its oldest request, and a request that the collector refuses for good is
dropped; both are counted, and logged now and then. Requests are made and compressed in a thread.

Source of which answers are tried again: the OTLP specification, "Failures", for OTLP/HTTP.

Tests: ``tests/unit/otlp/test_exporter.py``.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Self

import aiohttp
import structlog

from agent.otlp import mapping
from agent.throttle import RepeatedWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.metrics.prometheus import Snapshot

QUEUE_MOST: Final = 32
"""Requests that wait at most; at one a minute, half an hour."""
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
LONGEST_RETRY_AFTER_S: Final = 600.0
CALL_LIMIT_S: Final = 10.0
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
_LEVEL: Final = 3
_READ_BYTES: Final = 1024

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpSettings:
    """Where metrics are sent, and how often."""

    url: str
    """Of the collector's ``/v1/metrics``."""
    interval_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secret."""
    first_wait_s: float = FIRST_WAIT_S


def metrics_url(endpoint: str) -> str:
    """Return where a collector with this base URL takes metrics."""
    return f"{endpoint.rstrip('/')}/v1/metrics"


def retry_after_s(header: str, now: float) -> float | None:
    """Return the wait that an answer asks for: seconds, or a date; None if it says none. Pure."""
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, at - now), LONGEST_RETRY_AFTER_S)


class Exporter:
    """Sends the snapshots of one agent to one collector. Open it with ``Exporter.open``."""

    def __init__(
        self,
        settings: OtlpSettings,
        session: aiohttp.ClientSession,
        take: Callable[[], Snapshot],
        hostname: str,
    ) -> None:
        self.sent = 0
        """Requests that the collector took."""
        self.dropped = 0
        """Requests that were lost: refused, or too old."""
        self._settings = settings
        self._session = session
        self._take = take
        self._hostname = hostname
        self._queue: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._trouble = RepeatedWarning("metrics not sent by OTLP", clock=time.monotonic)

    @classmethod
    async def open(cls, settings: OtlpSettings, take: Callable[[], Snapshot]) -> Self:
        """Prepare; nothing is sent before ``run``.

        Args:
            settings: where to send.
            take: called on the event loop for each request; must be quick.
        """
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=CALL_LIMIT_S),
            connector=aiohttp.TCPConnector(limit=1),
            headers={
                **settings.headers,
                "Content-Type": "application/json",
                "Content-Encoding": "gzip",
            },
        )
        return cls(settings, session, take, socket.gethostname())

    async def close(self) -> None:
        """Close the connection; may be repeated."""
        await self._session.close()

    async def run(self) -> None:
        """Make and send requests until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._make(), name="OTLP timer")
            group.create_task(self._send_all(), name="OTLP sender")

    async def _make(self) -> None:
        while True:
            await asyncio.sleep(self._settings.interval_s)
            try:
                body = await asyncio.to_thread(self._encoded, self._take())
            except Exception:  # noqa: BLE001 - metrics may fail; the agent continues
                _log.exception("metrics for OTLP could not be made")
                continue
            if len(self._queue) >= QUEUE_MOST:
                self._queue.popleft()
                self._lost(f"more than {QUEUE_MOST} requests wait")
            self._queue.append(body)
            self._filled.set()

    def _encoded(self, snapshot: Snapshot) -> bytes:
        return gzip.compress(mapping.request(snapshot, self._hostname), _LEVEL, mtime=0)

    async def _send_all(self) -> None:
        wait_s = self._settings.first_wait_s
        while True:
            await self._filled.wait()
            if not self._queue:
                self._filled.clear()
                continue
            body = self._queue[0]
            asked_s = await self._send(body)
            if asked_s is None:
                if self._queue and self._queue[0] is body:
                    self._queue.popleft()
                wait_s = self._settings.first_wait_s
                continue
            spread = random.uniform(1.0, 1.2)  # noqa: S311 - spreads retries of many hosts
            await asyncio.sleep(max(asked_s, wait_s * spread))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _send(self, body: bytes) -> float | None:
        """Send one request; return None if it is done with, else the wait that was asked for."""
        try:
            async with (
                asyncio.timeout(CALL_LIMIT_S),
                self._session.post(self._settings.url, data=body, allow_redirects=False) as answer,
            ):
                text = (await answer.content.read(_READ_BYTES)).decode(errors="replace")
                status, header = answer.status, answer.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._trouble.tell(error=str(error) or type(error).__name__)
            return 0.0
        if status < 300:
            self.sent += 1
            if '"partialSuccess"' in text and '"rejectedDataPoints"' in text:
                self._trouble.tell(error="the collector refused some of them")
            return None
        if status in _TRY_AGAIN:
            self._trouble.tell(error=f"the collector answers {status}")
            return retry_after_s(header, time.time()) or 0.0
        self._lost(f"the collector refuses them with {status}")
        return None

    def _lost(self, why: str) -> None:
        self.dropped += 1
        self._trouble.tell(error=why)
