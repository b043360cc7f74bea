"""The connection to control: what an ingress is to do, and what it reports.

Failures are retried for ever, with backoff: a proxy goes on with what it knows while control is away. ``run``
ends only when it is cancelled, or with what a retry cannot fix (``ConfigError``).
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import structlog
from msgspec import Struct

from agent.errors import BAD_JSON, ControlFailure, ControlUnavailable
from agent.model.ingress import Reported, Reports, Truth
from agent.upstream.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.model.ingress import Group, Listener, Target, TargetReport
    from agent.upstream.longpoll.http_client import HttpClient

POLL_S: Final = 30.0
_LEAVE_S: Final = 5.0
_GROUPS: Final = 100
"""In one call."""
_T = TypeVar("_T", bound=Struct)
_encode = msgspec.json.Encoder().encode

_log = structlog.get_logger(__name__)


class Link:
    """Keeps what control wants, and tells it the health of targets; for one event loop."""

    def __init__(self, client: HttpClient, balancers: Sequence[str]) -> None:
        """Take the connections, and the names of the load balancers to serve; none for all."""
        self._client = client
        self._balancers = tuple(balancers)
        self._id = uuid.uuid4().hex
        self._run, self._serial = "", 0
        self.listeners: tuple[Listener, ...] | None = None
        """None until control has answered; likewise ``groups``."""
        self.groups: tuple[Group, ...] = ()
        self.targets: dict[str, tuple[Target, ...]] = {}
        """By group id."""
        self.changed = asyncio.Event()
        """Set when one of these has."""
        self._wanted: dict[str, dict[str, TargetReport]] | None = None
        """What is to be reported; None while nothing can be said."""
        self._told: dict[str, dict[str, TargetReport]] | None = None
        """What control has; None if it has nothing."""
        self._to_tell = asyncio.Event()

    async def run(self) -> None:
        """Follow control, and report to it, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self._follow), name="orders of control")
            group.create_task(self._again(self._tell), name="reports to control")

    def report(self, states: dict[str, dict[str, TargetReport]] | None) -> None:
        """Have control told the health of all targets, by group and name, if it has changed.

        None: nobody knows it any more, so that control decides without this ingress.
        """
        if states != self._wanted:
            self._wanted = states
            self._to_tell.set()

    async def leave(self) -> None:
        """Tell control that this ingress is gone; after ``run`` has ended. Failures are ignored."""
        with contextlib.suppress(ControlFailure, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._client.ingress("DELETE", self._id)

    async def _again(self, once: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(0.1, 5.0)
        failing = False
        while True:
            try:
                await once()
            except ControlFailure as error:
                if not failing:
                    _log.warning("control unavailable; the proxy goes on", error=str(error))
                failing = True
                await asyncio.sleep(backoff.next_s())
            else:
                if failing:
                    _log.info("control is back")
                failing = False
                backoff.reset()

    async def _follow(self) -> None:
        query = [("run", self._run), ("after", str(self._serial)), ("wait", f"{POLL_S:g}")]
        query += [("balancer", name) for name in self._balancers]
        if self._told is not None:
            query.append(("reported", "1"))
        raw = await self._client.ingress("GET", self._id, query=query, held_s=POLL_S)
        if not raw:
            return
        truth = _read(raw, Truth)
        if self._told is not None and not truth.is_known:
            # Perhaps only the first report was under way meanwhile; to repeat it does no harm.
            self._told = None
            self._to_tell.set()
        if truth.run != self._run:
            self.targets = {}
        self._run, self._serial = truth.run, truth.serial
        if truth.listeners is not None and truth.groups is not None:
            self.listeners, self.groups = truth.listeners, truth.groups
        self.targets |= truth.targets
        of = {each.id for each in self.groups}
        self.targets = {id_: those for id_, those in self.targets.items() if id_ in of}
        self.changed.set()

    async def _tell(self) -> None:
        await self._to_tell.wait()
        self._to_tell.clear()
        try:
            await self._tell_now()
        except ControlFailure:
            self._to_tell.set()
            raise

    async def _tell_now(self) -> None:
        wanted, told = self._wanted, self._told
        if wanted is None:
            if told is not None:
                await self._client.ingress("DELETE", self._id)
                self._told = None
            return
        whole = told is None
        changed: dict[str, dict[str, TargetReport] | None] = {
            id_: states for id_, states in wanted.items() if told is None or told.get(id_) != states
        }
        changed |= dict.fromkeys((told or {}).keys() - wanted.keys())
        items = list(changed.items())
        parts = [dict(items[at : at + _GROUPS]) for at in range(0, len(items), _GROUPS)]
        for part in parts or ([{}] if whole else []):
            body = _encode(Reports(groups=part, balancers=self._balancers, is_whole=whole))
            raw = await self._client.ingress("POST", f"{self._id}/health", body=body)
            if not _read(raw, Reported).is_known:
                self._told = None
                self._to_tell.set()
                return
        self._told = wanted


def _read(raw: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except BAD_JSON as error:
        raise ControlUnavailable(f"control's answer cannot be read: {error}") from None
