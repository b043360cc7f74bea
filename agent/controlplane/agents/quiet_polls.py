"""Polls that are repeated without anything new: they wait without a task, a parsed request or a timer of their own.

Most polls of a quiet fleet are the same as the one before on their connection (``agent.listening.repeats``). Such a
poll waits here as one small object. If its time is over, it is answered at once; if anything else happens - news, a
token that is taken back, a second host with its identity - it is handled as any other call, by ``assignments.Poller``.

Nothing here looks at the store: a poll only waits here while it is known that there is nothing new for it. For one
event loop. Tests: ``tests/unit/controlplane/agents/test_quiet_polls.py``.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp.helpers import rfc822_formatted_time

from agent.controlplane.monitoring.figures import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.agents.held_polls import HeldPolls
    from agent.controlplane.agents.incumbents import Incumbents
    from agent.controlplane.agents.longpoll.identity_calls import IdentityCalls
    from agent.controlplane.agents.tokens import Admission, AgentTokens
    from agent.controlplane.agents.wakeups import WakeUps
    from agent.controlplane.monitoring.figures import Figures
    from agent.listening.repeats import Repeated

TICK_S: Final = 0.1
"""Polls end at whole ticks, several at once: waking up for each of them costs more than answering."""
_CALL: Final = Call("agents", "assignments", 204)


class Asker(NamedTuple):
    """Whose poll it is."""

    instance_id: str
    admission: Admission
    host: str
    """The identity in its certificate; empty for a call by a token."""


class QuietPoll:
    """One poll, which comes again and again on one connection: see ``listening.repeats.Waiting``."""

    __slots__ = (
        "_is_woken",
        "_polls",
        "_repeated",
        "asker",
        "held_s",
        "is_ended",
        "may_rest",
        "tick",
    )

    def __init__(
        self, polls: QuietPolls, asker: Asker, held_s: float, may_rest: Callable[[], bool]
    ) -> None:
        """Take what is needed.

        Args:
            polls: all of them.
            asker: whose it is.
            held_s: how long it is held each time.
            may_rest: returns whether there is surely nothing new for it, and renews the lease of its host if so.
        """
        self._polls = polls
        self._repeated: Repeated | None = None
        self._is_woken = False
        self.asker = asker
        self.held_s = held_s
        self.may_rest = may_rest
        self.is_ended = False
        """Whether it is to be answered now, with news or without."""
        self.tick = 0
        """When it ends."""

    def wait(self, repeated: Repeated) -> bool:
        """Wait if there is surely nothing new."""
        self.is_ended = self._is_woken = False
        self._repeated = repeated
        if self._polls.take(self):
            return True
        self._repeated = None
        return False

    def drop(self) -> None:
        """Stop waiting: its connection is gone, or sends something else."""
        if self._repeated is not None:
            self._repeated = None
            self._polls.let_go(self)

    def is_gone(self) -> bool:
        """Return whether its connection is closed."""
        return self._repeated is None or self._repeated.is_gone()

    def set(self) -> None:
        """Wake it, in a moment; likewise when its caller is admitted no longer."""
        if not self._is_woken:
            self._is_woken = True
            self._polls.loop.call_soon(self._go_on)

    def end(self) -> None:
        """Have it answered: its host holds too many."""
        self.is_ended = True
        self.set()

    def expire(self) -> None:
        """Answer it, because its time is over; one that was woken meanwhile goes on as that says."""
        if not self._is_woken:
            self._answer()

    def _go_on(self) -> None:
        """Have it handled as another call."""
        if self.is_ended or self._polls.is_closing:
            self._answer()
            return
        repeated, self._repeated = self._repeated, None
        if repeated is not None:
            self._polls.let_go(self, goes_on=True)
            repeated.resume()

    def _answer(self) -> None:
        repeated, self._repeated = self._repeated, None
        if repeated is not None:
            self._polls.let_go(self)
            self._polls.figures.called(_CALL)
            repeated.answer(_nothing_new())


class QuietPolls:
    """All that wait so."""

    def __init__(
        self,
        *,
        wakeups: WakeUps,
        incumbents: Incumbents,
        held: HeldPolls,
        agent_tokens: AgentTokens,
        identities: IdentityCalls,
        figures: Figures,
    ) -> None:
        """Take what wakes polls, and what they are counted in."""
        self.loop = asyncio.get_running_loop()
        self._wakeups = wakeups
        self._incumbents = incumbents
        self._held = held
        self._tokens = agent_tokens
        self._identities = identities
        self.figures = figures
        self.is_closing = False
        """Whether all are to be answered, and none is held any more."""
        self._ending: dict[int, set[QuietPoll]] = {}
        """By tick."""

    def close(self) -> None:
        """Hold none any more; those that are held end when they are woken."""
        self.is_closing = True

    def take(self, poll: QuietPoll) -> bool:
        """Hold a poll; False if its caller is admitted no longer, or there may be news."""
        asker = poll.asker
        if self.is_closing or not self._tokens.watch(asker.admission, poll.set):
            return False
        if not self._identities.watch(asker.host, poll.set):
            self._tokens.unwatch(asker.admission, poll.set)
            return False
        if not poll.may_rest():
            self._unwatch(poll)
            return False
        self._incumbents.heard(asker.instance_id)
        self._wakeups.enter(asker.instance_id, poll)
        self._incumbents.hold(asker.instance_id, poll)
        self._held.enter(asker.instance_id, poll)
        poll.tick = math.ceil((self.loop.time() + poll.held_s) / TICK_S)
        ending = self._ending.get(poll.tick)
        if ending is None:
            ending = self._ending[poll.tick] = set()
            self.loop.call_at(poll.tick * TICK_S, self._end, poll.tick)
        ending.add(poll)
        return True

    def let_go(self, poll: QuietPoll, *, goes_on: bool = False) -> None:
        """Hold a poll no longer; ``goes_on`` if it is not answered yet."""
        asker = poll.asker
        self._unwatch(poll)
        self._held.leave(asker.instance_id, poll)
        self._incumbents.let_go(asker.instance_id, poll)
        self._wakeups.leave(asker.instance_id, poll, goes_on=goes_on)
        if (ending := self._ending.get(poll.tick)) is not None:
            ending.discard(poll)

    def _unwatch(self, poll: QuietPoll) -> None:
        self._tokens.unwatch(poll.asker.admission, poll.set)
        self._identities.unwatch(poll.asker.host, poll.set)

    def _end(self, tick: int) -> None:
        for poll in self._ending.pop(tick):
            poll.expire()


def _nothing_new() -> bytes:
    return f"HTTP/1.1 204 No Content\r\nDate: {rfc822_formatted_time()}\r\n\r\n".encode()
