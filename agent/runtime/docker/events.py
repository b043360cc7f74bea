"""The engine's event stream, read in its own thread and passed to the event loop.

Events are hints. A ``relist`` means that events may have been missed: it comes after every
connection (including the first) and when the reader fell so far behind that the buffer was dropped.
A connection asks for all events ``since`` the newest one seen, or since just before the first
connection, so that no event is lost between the answer's first byte and the engine's subscription.
Events that the engine repeats because of this are dropped here.

Tests: ``tests/unit/runtime/test_streams.py``, ``tests/integration/runtime/test_docker_events.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import structlog

from agent.runtime.docker import parse
from agent.runtime.docker.lanes import BlockingCall, CallAborted, make_current
from agent.runtime.docker.streams import FOREVER_S
from agent.runtime.protocol import EngineEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agent.runtime.docker.client import EngineClient

log = structlog.get_logger(__name__)

RELIST = EngineEvent(action="relist")

_PENDING_LIMIT = 4096
_REMEMBERED = 512
_HEADER_SILENCE_S = 60.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_STABLE_S = 10.0


class RecentEvents:
    """Remembers the newest events, to drop those that the engine sends again."""

    def __init__(self, *, since_ns: int) -> None:
        self.since_ns = since_ns
        """Time of the newest event seen, to resume from."""
        self._order: deque[tuple[int, str, str]] = deque()
        self._known: set[tuple[int, str, str]] = set()

    def is_new(self, raw: dict[str, Any]) -> bool:
        """Remember an event; False if it is known."""
        at_ns = parse.event_time_ns(raw)
        actor = raw.get("Actor")
        subject = actor.get("ID") if isinstance(actor, dict) else raw.get("id")
        key = (at_ns, str(raw.get("Action")), str(subject))
        if key in self._known:
            return False
        self._known.add(key)
        self._order.append(key)
        if len(self._order) > _REMEMBERED:
            self._known.discard(self._order.popleft())
        self.since_ns = max(self.since_ns, at_ns)
        return True

    def since(self) -> str:
        """Return the time to resume from, in the engine's format."""
        seconds, nanoseconds = divmod(self.since_ns, 1_000_000_000)
        return f"{seconds}.{nanoseconds:09d}"


class EventFeed:
    """The stream for one reader, and the thread that fills it, which runs from the beginning.

    Created, iterated and stopped on one event loop.
    """

    def __init__(self, client: Callable[[], EngineClient], *, limit: int = _PENDING_LIMIT) -> None:
        """Start the thread.

        Args:
            client: returns the client; called in the thread.
            limit: how many events may wait for the reader before a ``relist`` replaces them.
        """
        self._client = client
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._pending: deque[EngineEvent] = deque()
        self._some = asyncio.Event()
        self._stopping: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop_asked = False
        self._call = BlockingCall(FOREVER_S, operation="events")
        self._repeats = RecentEvents(since_ns=time.time_ns())
        self.thread = threading.Thread(target=self._serve, name="engine-events", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Tell the thread and the reader to end; returns at once and may be repeated."""
        self._stop_asked = True
        self._stopping.put(None)
        self._call.abort()
        self._some.set()

    async def __aiter__(self) -> AsyncIterator[EngineEvent]:
        """Yield events until ``stop``."""
        while not self._is_stopped():
            while self._pending and not self._is_stopped():
                yield self._pending.popleft()
            self._some.clear()
            if not self._pending and not self._is_stopped():
                await self._some.wait()

    def _is_stopped(self) -> bool:
        return self._stop_asked

    def push(self, event: EngineEvent) -> None:
        """Pass an event to the reader; called in the thread."""
        if len(self._pending) >= self._limit:
            self._pending.clear()
            event = RELIST
        self._pending.append(event)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._some.set)

    def _serve(self) -> None:
        pause_s = _FIRST_PAUSE_S
        away = False
        while not self._is_stopped():
            connected_at = time.monotonic()
            try:
                for raw in self._connect():
                    if away:
                        log.info("engine events are back")
                        away = False
                    self._take(raw)
                error: Exception | None = None
            except CallAborted:
                return
            except Exception as caught:  # noqa: BLE001 - every error is handled in the same way
                error = caught
            if self._is_stopped():
                return
            if not away:
                log.warning("engine events lost; reconnecting", error=str(error or "stream ended"))
                away = True
            if time.monotonic() - connected_at > _STABLE_S:
                pause_s = _FIRST_PAUSE_S
            with contextlib.suppress(queue.Empty):
                self._stopping.get(timeout=pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                return
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _connect(self) -> Iterator[dict[str, Any] | None]:
        """Yield None once the stream is open, then every message."""
        self._call.detach()
        make_current(self._call)
        client = self._client()
        try:
            # The engine may have been replaced by another version while it was down.
            self._call.limit_silence(_HEADER_SILENCE_S)
            client.negotiate()
            messages = client.messages(since=self._repeats.since(), actions=parse.ACTIONS)
            self._call.limit_silence(FOREVER_S)
            yield None
            yield from messages
        finally:
            client.adapter.finish(reusable=False)
            make_current(None)

    def _take(self, raw: dict[str, Any] | None) -> None:
        if raw is None:
            self.push(RELIST)
        elif self._repeats.is_new(raw) and (event := parse.event(raw)) is not None:
            self.push(event)
