"""Sends every event to a webhook: in order, at least once, one call each, like EventBridge's API destinations.

What is not answered with 2xx is sent again, less and less often, and the events behind it wait in the store's
history. That is held for them (``held_from``), but not without end: what a webhook has missed for too long is
lost to it, which is logged. An event that it refuses for good (400, 413, 422...) is dropped and logged.

The place up to which all is delivered is in the store, so that a restart goes on there. The URL and the
headers are never logged.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec
import structlog

from agent.aws.http import worded
from agent.controlplane.events import webhook_file
from agent.controlplane.events.feed import EventFeed
from agent.controlplane.store.contract import Put, StoreFailure
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.aws.http import AwsHttp
    from agent.controlplane.events.envelope import Envelope
    from agent.controlplane.events.feed import Batch
    from agent.controlplane.events.webhook_file import Webhook
    from agent.controlplane.names import Names
    from agent.controlplane.store.contract import Store

PLACE_KEY: Final = "/meta/eventWebhook"
"""The place up to which all is delivered."""
HELD_REVISIONS: Final = 50_000
"""For how many changes of the store a webhook may be away without losing events."""
LIMIT_S: Final = 10.0
"""For one call."""
LAGS_S: Final = 60.0
"""A webhook that has taken nothing for this long is reported as a problem."""
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 60.0
SAVE_S: Final = 5.0
"""How often the place is stored while events are delivered. After a crash, so many seconds are sent again."""
_SAVE_IDLE_S: Final = 60.0
"""How often it is stored while there are other changes than events."""
_REMIND_S: Final = 300.0
_PERHAPS_MENDED: Final = frozenset({401, 403, 404, 408, 425, 429})
"""Answers that say nothing about the event: a person mends them, or time does."""

_log = structlog.get_logger(__name__)


class EventWebhook:
    """Delivers the events of one store; for one event loop."""

    def __init__(
        self, store: Store, names: Names, clock: Callable[[], float], http: AwsHttp, file: Path
    ) -> None:
        """Take what ``open`` made; ``http`` is closed by whoever made it."""
        self._store = store
        self._names = names
        self._clock = clock
        self._http = http
        self._file = file
        self._hook: Webhook | None = None
        self._place = 0
        self._saved = 0
        self._saved_at = time.monotonic()
        self._trouble = ""
        self._told_at = -_REMIND_S
        self._waiting_since: float | None = None
        self._dice = random.Random()  # noqa: S311 - spreads load, guards nothing

    @classmethod
    async def open(
        cls, store: Store, names: Names, clock: Callable[[], float], http: AwsHttp, file: Path
    ) -> EventWebhook:
        """Return what goes on where it was; a store without a place begins with what comes from now on.

        Raises:
            ConfigError: the file names no webhook.
            StoreFailure: the place cannot be read or written.
        """
        made = cls(store, names, clock, http, file)
        made._hook = await asyncio.to_thread(webhook_file.read, file)
        kv = await store.get(PLACE_KEY)
        if kv is not None and kv.value.isdigit():
            made._place = made._saved = min(int(kv.value), store.revision)
        else:
            made._place = store.revision
            await made._save()
        _log.info("events are sent to a webhook", to=made._hook.name)
        return made

    def held_from(self) -> int:
        """Return the revision from which on the store's history is still needed."""
        return max(self._place, self._store.revision - HELD_REVISIONS)

    def problem(self) -> str:
        """Return what is to be told of it, for a person; empty while it keeps up."""
        if self._waiting_since is None or time.monotonic() - self._waiting_since < LAGS_S:
            return ""
        waits_s = time.monotonic() - self._waiting_since
        return f"events: the webhook has taken nothing for {waits_s:.0f} s: {self._trouble}"

    async def run(self) -> None:
        """Deliver until cancelled; whatever is wrong with store or webhook is tried again."""
        while True:
            try:
                async with EventFeed(
                    self._store, self._names, self._clock, after=self._place
                ) as feed:
                    while True:
                        await self._deliver(await feed.next())
            except StoreFailure as error:
                self._say(f"the store: {error}")
            await asyncio.sleep(self._pause_s(FIRST_WAIT_S))

    async def _deliver(self, batch: Batch) -> None:
        if batch.is_gap:
            _log.error(
                "events are lost to the webhook: it was away for too long", before=batch.place
            )
        for place, envelope in batch.events:
            await self._send(envelope)
            self._place = max(self._place, place)
        self._place = batch.place
        is_own = all(event.kv.key == PLACE_KEY for event in batch.seen) and not batch.is_gap
        waited_s = time.monotonic() - self._saved_at
        if waited_s >= (SAVE_S if batch.events else _SAVE_IDLE_S) and not is_own:
            await self._save()

    async def _save(self) -> None:
        await self._store.txn([], [Put(PLACE_KEY, str(self._place).encode())])
        self._saved, self._saved_at = self._place, time.monotonic()

    async def close(self) -> None:
        """Store the place up to which all is delivered; a failure means that some is sent again."""
        if self._place == self._saved:
            return
        try:
            await self._save()
        except StoreFailure as error:
            _log.warning("the place of the webhook is not stored", error=str(error))

    async def _send(self, envelope: Envelope) -> None:
        """Return when an event is delivered, or refused for good."""
        body = msgspec.json.encode(envelope)
        wait_s, of_file = FIRST_WAIT_S, ""
        while True:
            trouble, is_final = await self._try(body)
            if not trouble or is_final:
                break
            if self._waiting_since is None:
                self._waiting_since = time.monotonic()
            self._say(of_file or trouble)
            await asyncio.sleep(self._pause_s(wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            of_file = await self._reload()
        if is_final:
            _log.warning(
                "the webhook refuses an event; it is dropped", id=envelope.id, error=trouble
            )
        elif self._trouble:
            _log.info("events are sent to the webhook again")
        self._trouble, self._waiting_since = "", None

    async def _try(self, body: bytes) -> tuple[str, bool]:
        """Return what went wrong, empty for nothing, and whether to try again is in vain."""
        hook = self._hook
        assert hook is not None  # noqa: S101 - it was opened
        try:
            async with (
                asyncio.timeout(LIMIT_S),
                self._http.session.post(
                    hook.url,
                    data=body,
                    headers={**hook.headers, "Content-Type": "application/json"},
                    allow_redirects=False,
                    proxy=self._http.proxy_for(hook.url),
                ) as response,
            ):
                status = response.status
        except TimeoutError:
            return f"no answer within {LIMIT_S:g} s", False
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Texts of some errors have the URL.
            is_safe = isinstance(error, aiohttp.ClientConnectorError)
            return worded(error) if is_safe else type(error).__name__, False
        if status < 300:
            return "", False
        is_final = 400 <= status < 500 and status not in _PERHAPS_MENDED
        return f"it answered {status}", is_final

    async def _reload(self) -> str:
        """Read the file again, which somebody may have mended; return what is wrong with it, or nothing."""
        try:
            self._hook = await asyncio.to_thread(webhook_file.read, self._file)
        except ConfigError as error:
            return str(error)
        return ""

    def _pause_s(self, wait_s: float) -> float:
        return self._dice.uniform(0.5, 1.0) * wait_s

    def _say(self, trouble: str) -> None:
        """Log what is in the way, when it is new and then every few minutes."""
        now = time.monotonic()
        if trouble != self._trouble or now - self._told_at >= _REMIND_S:
            _log.warning("events cannot be sent to the webhook; tried again", error=trouble)
            self._told_at = now
        self._trouble = trouble
