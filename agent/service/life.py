"""The life of the process: serve, reload on SIGHUP, leave on SIGTERM or SIGINT.

::

    serve(settings, turn) ──SIGHUP──► settings read anew ─┬─ bad, or the same: serve on
            │                                             └─ other ones: end this turn, begin the next
            ├─ fails before it has settled, with new settings ──► the old ones are put back
            └─SIGTERM──► ended, once; what comes later must not cut the clean-up short

A turn is everything that was built from one set of settings. Reads no file itself; what serves, what
reads and what takes on the settings of the log are given by the daemon.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from agent.errors import AgentError, ConfigError, leaves
from agent.model.promise import Promise
from agent.service.reload import difference

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.config import Settings
    from agent.service.notify import Notifier

END_LIMIT_S: Final = 120.0
"""A turn that takes longer to end is stuck; an engine that hangs holds it up for half a minute."""

_log = structlog.get_logger(__name__)


class Serve(Protocol):
    """Builds everything from settings and runs it until cancelled."""

    def __call__(self, settings: Settings, turn: Turn) -> Coroutine[None, None, None]:
        """Serve; calls ``turn.ready`` and ``turn.settle`` on the way."""


class Turn:
    """One stretch of serving under the same settings."""

    def __init__(
        self, settings: Settings, notifier: Notifier, *, fallback: Settings | None = None
    ) -> None:
        self.settings = settings
        self.fallback = fallback
        """The settings to go back to when these turn out to be bad; None: there are none."""
        self.successor: Settings | None = None
        """What is served with next, so that it need not be torn down; None: nothing is."""
        self.is_ready = False
        self.settled = False
        self.task: asyncio.Task[None]
        self._notifier = notifier

    def ready(self) -> None:
        """Start-up is over, or cannot go on before somebody else acts; may be called again."""
        if not self.is_ready:
            self.is_ready = True
            self._notifier.ready()

    def settle(self) -> None:
        """Everything was built from these settings and runs: there is no way back to older ones."""
        self.fallback = None
        self.settled = True
        self.ready()


class Life:
    """Serves turn after turn. Belongs to one event loop, whose signal handlers it sets.

    Args:
        serve: what a turn does.
        reread: reads the settings anew; blocks, raises ``ConfigError``.
        adopt: makes the log follow new settings; blocks, raises ``ConfigError``.
        notifier: the line to the service manager.
        hung_up: tells whether the terminal that the process was started on is gone: SIGHUP means
            that, then, and not a reload.
    """

    def __init__(
        self,
        serve: Serve,
        *,
        reread: Callable[[], Settings],
        adopt: Callable[[Settings], None],
        notifier: Notifier,
        hung_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.promise = Promise("reload")
        """For the watchdog: a turn that does not end is stuck."""
        self._serve = serve
        self._reread = reread
        self._adopt = adopt
        self._notifier = notifier
        self._hung_up = hung_up
        self._news = asyncio.Event()
        self._leaving = asyncio.Event()
        self._asked = False

    async def run(self, settings: Settings) -> None:
        """Serve until told to leave.

        Raises:
            AgentError: serving failed, by itself or within a group.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leave)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(signal.SIGHUP, self.hang_up)
        turn = self._begin(settings)
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                if self._leaving.is_set():
                    await self._leave(turn)
                    return
                if turn.task.done():
                    turn = await self._put_back(turn)
                elif self._asked:
                    self._asked = False
                    turn = await self._reload(turn)
        finally:
            turn.task.cancel()
            await asyncio.wait([turn.task])

    def leave(self) -> None:
        """End; returns at once. Only the first call counts.

        A second signal comes easily: a service manager signals parent and child, a dying parent
        signals once per thread.
        """
        self._leaving.set()
        self._news.set()

    def hang_up(self) -> None:
        """Do what SIGHUP means here."""
        if self._hung_up():
            self.leave()
        else:
            self.reload()

    def reload(self) -> None:
        """Read the settings anew; returns at once. Calls during a reload make one more."""
        self._asked = True
        self._news.set()

    def _begin(self, settings: Settings, *, fallback: Settings | None = None) -> Turn:
        turn = Turn(settings, self._notifier, fallback=fallback)
        turn.task = asyncio.create_task(self._serve(settings, turn), name="agent")
        turn.task.add_done_callback(lambda _: self._news.set())
        return turn

    async def _reload(self, turn: Turn) -> Turn:
        """Return the turn that serves from here on: this one, or the next."""
        if turn.is_ready:
            self._notifier.reloading()
        new = await self._new_settings(turn)
        if new is None or self._leaving.is_set():
            if turn.is_ready:
                self._notifier.ready()
            return turn
        turn.successor = new
        with self.promise.within(END_LIMIT_S, "ending what the old settings built"):
            error = await _end(turn)
        self.promise.rest()
        if error is not None:
            _log.warning("not everything ended in order", error="; ".join(_texts(error)))
        if self._leaving.is_set():
            return turn
        return self._begin(new, fallback=turn.settings if turn.settled else turn.fallback)

    async def _new_settings(self, turn: Turn) -> Settings | None:
        """Return settings that differ from the turn's and can be logged with; else None."""
        try:
            new = await asyncio.to_thread(self._reread)
            changes = difference(turn.settings, new)
            if changes:
                await asyncio.to_thread(self._adopt, new)
        except ConfigError as error:
            for problem in str(error).splitlines():
                _log.error("settings not reloaded, the old ones stay", problem=problem)
            return None
        if not changes:
            _log.info("settings reloaded: no difference")
            return None
        for change in changes:
            _log.info("setting changed", variable=change.variable, old=change.old, new=change.new)
        return new

    async def _put_back(self, turn: Turn) -> Turn:
        """Begin anew with the settings before, when the new ones have failed; else raise."""
        error = None if turn.task.cancelled() else turn.task.exception()
        if turn.fallback is None or not isinstance(error, Exception):
            raise error or RuntimeError("serving ended by itself")
        _log.error(
            "the new settings do not work, the old ones are put back",
            error="; ".join(_texts(error)),
            exc_info=None if _is_ours(error) else error,
        )
        try:
            await asyncio.to_thread(self._adopt, turn.fallback)
        except ConfigError as trouble:
            _log.error("the log goes on as it is", error=str(trouble))
        return self._begin(turn.fallback)

    async def _leave(self, turn: Turn) -> None:
        self._notifier.stopping()
        error = await _end(turn)
        if error is not None:
            raise error
        _log.info("stopping; tasks run on")


async def _end(turn: Turn) -> BaseException | None:
    """Cancel a turn and return when it has cleaned up, with what failed in that."""
    turn.task.cancel()
    await asyncio.wait([turn.task])
    return None if turn.task.cancelled() else turn.task.exception()


def _is_ours(error: BaseException) -> bool:
    return all(isinstance(leaf, AgentError) for leaf in leaves(error))


def _texts(error: BaseException) -> list[str]:
    return [str(leaf) or type(leaf).__name__ for leaf in leaves(error)]
