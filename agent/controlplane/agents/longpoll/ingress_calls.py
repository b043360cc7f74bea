"""The calls of ingresses: see the table in ``agent.model.ingress``.

A poll reads a view in memory, so that its cost depends on what has changed. It is held for less than half of a
lease, because a call renews the lease and the time for which it is held does not.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from agent.controlplane import bounds
from agent.controlplane.agents.held_polls import HeldPolls
from agent.controlplane.agents.ingress_leases import IngressLeases
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.agents.wakeups import INGRESSES
from agent.controlplane.loadbalancing.health import HEALTHY, INITIAL, UNHEALTHY
from agent.controlplane.loadbalancing.ingress_view import PREFIXES, IngressView
from agent.controlplane.store.following import Follower
from agent.errors import BAD_JSON
from agent.model.ingress import Reported, Reports, Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.controlplane.agents.wakeups import WakeUps
    from agent.controlplane.parts import Parts

_ID: Final = re.compile(r"[0-9a-f]{32}")
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,32}")
_NAMES_MOST: Final = 50
_TARGETS_MOST: Final = 2000
"""Of one group, draining ones included."""
_TEXT_MOST: Final = 256
_ITEMS_MOST: Final = 10_000
"""Groups of one report, or parts of one of them."""
_VALUES_MOST: Final = 300_000
_STATES: Final = frozenset({INITIAL, HEALTHY, UNHEALTHY})
_reports = msgspec.json.Decoder(Reports)


def read_id(text: str) -> str:
    """Return the id of an ingress; raises ``InvalidRequest``."""
    if not _ID.fullmatch(text):
        raise InvalidRequest("the id of an ingress has 32 hexadecimal digits")
    return text


def read_names(given: Sequence[str]) -> frozenset[str]:
    """Return names of load balancers; raises ``InvalidRequest``."""
    if len(given) > _NAMES_MOST or not all(map(_NAME.fullmatch, given)):
        raise InvalidRequest(f"balancer names a load balancer, at most {_NAMES_MOST} of them")
    return frozenset(given)


def read(body: bytes) -> Reports:
    """Return what an ingress reports; raises ``InvalidRequest``."""
    try:
        bounds.look(body, most_items=_ITEMS_MOST, most_values=_VALUES_MOST)
        reports = _reports.decode(body)
    except bounds.OutOfBounds as error:
        raise InvalidRequest(f"the reports are refused: {error}") from None
    except BAD_JSON as error:
        raise InvalidRequest(f"the reports cannot be read: {error}") from None
    read_names(reports.balancers)
    for states in reports.groups.values():
        if states is None:
            continue
        if len(states) > _TARGETS_MOST:
            raise InvalidRequest(f"a group has more than {_TARGETS_MOST} targets")
        for name, state in states.items():
            texts = (name, state.reason, state.description)
            if state.state not in _STATES or any(len(text) > _TEXT_MOST for text in texts):
                raise InvalidRequest("a report has an unknown state, or too long a text")
    return reports


class IngressCalls:
    """Answers ingresses; for one event loop."""

    def __init__(self, parts: Parts, wakeups: WakeUps) -> None:
        self._parts = parts
        self._wakeups = wakeups
        self._leases = IngressLeases(parts.store)
        self._follower = Follower(parts.store, PREFIXES, IngressView)
        self._turn = asyncio.Lock()
        self._held = HeldPolls()
        self._closing = False

    def close(self) -> None:
        """Answer every held poll once it is woken, and later ones without holding them."""
        self._closing = True

    async def poll(
        self,
        ingress_id: str,
        names: frozenset[str],
        run: str,
        after: int,
        wait_s: float,
        is_gone: Callable[[], bool],
        *,
        has_reported: bool,
    ) -> Truth | None:
        """Return what has changed for an ingress; waits for it, and returns None if nothing has.

        One that takes itself for known and is not is told so at once (``has_reported``).

        Raises:
            StoreFailure: the store cannot be read.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait_s, self._leases.ttl_s / 3)
        is_known = await self._leases.renew(ingress_id)
        with (
            self._wakeups.taken(INGRESSES) as wakeup,
            self._held.entered(ingress_id, wakeup) as held,
        ):
            while True:
                wakeup.clear()
                view = await self._view()
                now = self._parts.clock()
                ends_at = view.expire(now)
                truth = view.truth(run, after, names, now, is_known=is_known)
                left_s = deadline - loop.time()
                if truth is None and has_reported and not is_known:
                    return Truth(run=run, serial=after)
                is_over = held.is_over or self._closing or is_gone()
                if truth is not None or left_s <= 0 or is_over:
                    return truth
                if ends_at is not None:
                    left_s = min(left_s, max(0.0, ends_at - now))
                try:
                    async with asyncio.timeout(left_s):
                        await wakeup.wait()
                except TimeoutError:
                    continue

    async def take(self, ingress_id: str, reports: Reports) -> Reported:
        """Store what an ingress reports, of the groups that there are."""
        known = (await self._view()).group_ids
        there = {id_: states for id_, states in reports.groups.items() if id_ in known}
        taken = await self._leases.take(ingress_id, replace(reports, groups=there))
        return Reported(is_known=taken)

    async def end(self, ingress_id: str) -> None:
        """Forget an ingress that leaves."""
        await self._leases.end(ingress_id)

    async def _view(self) -> IngressView:
        async with self._turn:
            return await self._follower.read()
