"""The life of the process: serve, reload on SIGHUP, leave on SIGTERM or SIGINT.

::

    serve(settings, session) ──SIGHUP──► read settings again ─┬─ bad or unchanged: continue
            │                                                 └─ changed: end this session, start the next
            ├─ fails with new settings before it has settled ──► restore the old settings
            └─SIGTERM──► end, once; later signals must not cut the clean-up short
                         (a host that goes down is left first: ``ServeSession.leave_host``)

A session is everything that was built from one set of settings. This module reads no file itself: the
daemon passes the functions that serve, read settings and configure the log.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from agent.errors import AgentError, ConfigError, leaves
from agent.model.liveness import Liveness
from agent.supervision.reload import difference
from agent.supervision.shutdown import is_going_down

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from agent.config import Settings
    from agent.supervision.notify import Notifier

END_LIMIT_S: Final = 120.0
"""A session that takes longer to end is stuck; a hanging engine delays the end by half a minute."""

EXTENSION_S: Final = 30.0
"""How much longer the service manager is asked to wait, again and again, while a host is left."""

_log = structlog.get_logger(__name__)


class Serve(Protocol):
    """Builds everything from settings and runs it until cancelled."""

    def __call__(
        self, settings: Settings, serve_session: ServeSession
    ) -> Coroutine[None, None, None]:
        """Serve; call ``serve_session.ready`` and ``serve_session.settle`` on the way."""


class ServeSession:
    """One period of serving with the same settings."""

    def __init__(
        self,
        settings: Settings,
        notifier: Notifier,
        *,
        fallback: Settings | None = None,
        begin_again: Callable[[], None] = lambda: None,
    ) -> None:
        self.begin_again = begin_again
        """Ends this session soon and begins another with the same settings; returns at once."""
        self.settings = settings
        self.fallback = fallback
        """The settings to go back to if these turn out to be bad, if any."""
        self.successor: Settings | None = None
        """The settings of the next session, if any; what both share need not be torn down."""
        self.is_ready = False
        self.settled = False
        self.leave_host: Callable[[], Awaitable[None]] | None = None
        """What is done first when the host itself goes down, if anything."""
        self.task: asyncio.Task[None]
        self._notifier = notifier

    def ready(self) -> None:
        """Report that start-up is complete or waits for another party; may be called again."""
        if not self.is_ready:
            self.is_ready = True
            self._notifier.ready()

    def settle(self) -> None:
        """Commit to these settings: everything was built and runs, so there is no fallback."""
        self.fallback = None
        self.settled = True
        self.ready()


class Lifecycle:
    """Serves session after session. Belongs to one event loop, whose signal handlers it sets.

    Args:
        serve: what a session does.
        reread: reads the settings again; blocks, raises ``ConfigError``.
        adopt: applies new settings to the log; blocks, raises ``ConfigError``.
        notifier: the connection to the service manager.
        hung_up: tells whether the process has lost its terminal; then SIGHUP means that, and not a
            reload.
        host_goes_down: tells whether the host is shutting down; asked when the process is to end.
    """

    def __init__(
        self,
        serve: Serve,
        *,
        reread: Callable[[], Settings],
        adopt: Callable[[Settings], None],
        notifier: Notifier,
        hung_up: Callable[[], bool] = lambda: False,
        host_goes_down: Callable[[], Awaitable[bool]] = is_going_down,
    ) -> None:
        self.liveness = Liveness("reload")
        """For the watchdog: a session that does not end is stuck."""
        self._serve = serve
        self._reread = reread
        self._adopt = adopt
        self._notifier = notifier
        self._hung_up = hung_up
        self._host_goes_down = host_goes_down
        self._news = asyncio.Event()
        self._leaving = asyncio.Event()
        self._asked = False
        self._again = False

    async def run(self, settings: Settings) -> None:
        """Serve until ``leave`` is called.

        Raises:
            AgentError: serving failed, by itself or within a group.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leave)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(signal.SIGHUP, self.hang_up)
        serve_session = self._begin(settings)
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                if self._leaving.is_set():
                    await self._leave(serve_session)
                    return
                if serve_session.task.done():
                    serve_session = await self._put_back(serve_session)
                elif self._asked:
                    self._asked = False
                    serve_session = await self._reload(serve_session)
                elif self._again:
                    self._again = False
                    serve_session = await self._replace(serve_session, serve_session.settings)
        finally:
            serve_session.task.cancel()
            await asyncio.wait([serve_session.task])

    def leave(self) -> None:
        """Start to end; returns at once. Only the first call has an effect.

        More than one signal is common: a service manager signals parent and child, and a dying
        parent signals once per thread.
        """
        self._leaving.set()
        self._news.set()

    def hang_up(self) -> None:
        """Handle SIGHUP: reload, or leave if the terminal is gone."""
        if self._hung_up():
            self.leave()
        else:
            self.reload()

    def reload(self) -> None:
        """Read the settings again; returns at once. Calls during a reload cause one more reload."""
        self._asked = True
        self._news.set()

    def begin_again(self) -> None:
        """Replace the session by one with the same settings; returns at once."""
        self._again = True
        self._news.set()

    def _begin(self, settings: Settings, *, fallback: Settings | None = None) -> ServeSession:
        self._again = False
        serve_session = ServeSession(
            settings, self._notifier, fallback=fallback, begin_again=self.begin_again
        )
        serve_session.task = asyncio.create_task(self._serve(settings, serve_session), name="agent")
        serve_session.task.add_done_callback(lambda _: self._news.set())
        return serve_session

    async def _reload(self, serve_session: ServeSession) -> ServeSession:
        """Return the session that serves from now on: this one or the next."""
        if serve_session.is_ready:
            self._notifier.reloading()
        new = await self._new_settings(serve_session)
        if new is None or self._leaving.is_set():
            if serve_session.is_ready:
                self._notifier.ready()
            return serve_session
        return await self._replace(serve_session, new)

    async def _replace(self, serve_session: ServeSession, new: Settings) -> ServeSession:
        """End a session and begin the next; return the old one if the process is to end."""
        serve_session.successor = new
        with self.liveness.within(END_LIMIT_S, "shutting down the old settings' parts"):
            error = await _end(serve_session)
        self.liveness.rest()
        if error is not None:
            _log.warning("shutdown of the old settings had errors", error="; ".join(_texts(error)))
        if self._leaving.is_set():
            return serve_session
        return self._begin(
            new,
            fallback=serve_session.settings if serve_session.settled else serve_session.fallback,
        )

    async def _new_settings(self, serve_session: ServeSession) -> Settings | None:
        """Return the new settings if they differ and the log accepts them, or None."""
        try:
            new = await asyncio.to_thread(self._reread)
            changes = difference(serve_session.settings, new)
            if changes:
                await asyncio.to_thread(self._adopt, new)
        except ConfigError as error:
            for problem in str(error).splitlines():
                _log.error("settings not reloaded; the old ones stay in use", problem=problem)
            return None
        if not changes:
            _log.info("settings reloaded: no changes")
            return None
        for change in changes:
            _log.info("setting changed", variable=change.variable, old=change.old, new=change.new)
        return new

    async def _put_back(self, serve_session: ServeSession) -> ServeSession:
        """Start again with the previous settings if the new ones failed; otherwise raise."""
        error = None if serve_session.task.cancelled() else serve_session.task.exception()
        if serve_session.fallback is None or not isinstance(error, Exception):
            raise error or RuntimeError("serving ended by itself")
        _log.error(
            "the new settings do not work; restoring the old ones",
            error="; ".join(_texts(error)),
            exc_info=None if _is_ours(error) else error,
        )
        try:
            await asyncio.to_thread(self._adopt, serve_session.fallback)
        except ConfigError as trouble:
            _log.error("log settings not restored; the log stays as it is", error=str(trouble))
        return self._begin(serve_session.fallback)

    async def _leave(self, serve_session: ServeSession) -> None:
        self._notifier.stopping()
        await self._leave_host(serve_session)
        error = await _end(serve_session)
        if error is not None:
            raise error
        _log.info("stopping; tasks keep running")

    async def _leave_host(self, serve_session: ServeSession) -> None:
        """Let the session do what it does before the host goes down, for as long as it serves."""
        if serve_session.leave_host is None or not await self._host_goes_down():
            return
        leaving = asyncio.ensure_future(serve_session.leave_host())
        try:
            while not leaving.done() and not serve_session.task.done():
                self._notifier.extend_stop(EXTENSION_S)
                await asyncio.wait(
                    [leaving, serve_session.task],
                    timeout=EXTENSION_S / 3,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            if leaving.done() and (error := leaving.exception()) is not None:
                _log.error("the host was not drained before its shutdown", error=str(error))
        finally:
            leaving.cancel()
            await asyncio.wait([leaving])


async def _end(serve_session: ServeSession) -> BaseException | None:
    """Cancel a session, wait for its clean-up, and return the error of the clean-up, if any."""
    serve_session.task.cancel()
    await asyncio.wait([serve_session.task])
    return None if serve_session.task.cancelled() else serve_session.task.exception()


def _is_ours(error: BaseException) -> bool:
    return all(isinstance(leaf, AgentError) for leaf in leaves(error))


def _texts(error: BaseException) -> list[str]:
    return [str(leaf) or type(leaf).__name__ for leaf in leaves(error)]
