"""The agent process: from its settings to its exit code.

SIGTERM and SIGINT end the process with code 0; tasks keep running. SIGHUP reads the settings again
and starts a new session if they differ (``supervision.lifecycle``). An error that a restart cannot
fix ends the process with ``ExitCode.TERMINAL``, any other with ``ExitCode.ERROR``.

Tests: ``tests/integration/supervision/test_reload.py``, ``tests/unit/cli/test_command_line.py``.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import os
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent import logs
from agent.daemon import serve
from agent.errors import (
    AgentError,
    ConfigError,
    ExitCode,
    RegistrationRefused,
    StaleGeneration,
    leaves,
)
from agent.supervision.lifecycle import Lifecycle
from agent.supervision.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config import Settings
    from agent.supervision.held_sockets import HeldSockets
    from agent.supervision.notify import Notifier

STDERR: Final = 2
_M_ARENA_MAX: Final = -8
"""The parameter of glibc's ``mallopt``, from its ``malloc.h``."""
_ARENAS: Final = 2

_log = structlog.get_logger()


def main(
    settings: Settings,
    *,
    reread: Callable[[], Settings],
    notifier: Notifier,
    sockets: HeldSockets,
) -> int:
    """Run the agent until it is told to stop; return its exit code.

    Args:
        settings: the initial settings.
        reread: reads the settings again for a reload; blocks.
        notifier: the connection to the service manager.
        sockets: those that an earlier process listened on.
    """
    faulthandler.enable()  # the watchdog ends a stuck agent with SIGABRT: show where it was stuck
    limit_arenas()
    code = ExitCode.SUCCESS
    try:
        asyncio.run(_live(settings, reread, notifier, sockets))
    except* (ConfigError, StaleGeneration, RegistrationRefused) as group:
        notifier.status(_texts(group))
        _log.error("the agent cannot continue", error=_texts(group))
        code = ExitCode.TERMINAL
    except* AgentError as group:
        notifier.status(_texts(group))
        _log.error("the agent failed", error=_texts(group))
        code = ExitCode.ERROR
    return code


def limit_arenas() -> None:
    """Have all threads of this process share two heaps of the C library; may be repeated.

    glibc makes a heap for each thread, up to eight for each processor, and each keeps what its
    thread has freed. Only counts for threads that are started afterwards. Other C libraries have one heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def _texts(group: BaseExceptionGroup[BaseException]) -> str:
    return "; ".join(str(error) for error in leaves(group))


async def _live(
    settings: Settings, reread: Callable[[], Settings], notifier: Notifier, sockets: HeldSockets
) -> None:
    """Serve until SIGTERM or SIGINT, with the watchdog at its side."""
    watchdog = Watchdog(notifier)
    started_at = time.time()
    on_terminal = os.isatty(STDERR)
    life = Lifecycle(
        lambda chosen, serve_session: serve(chosen, serve_session, watchdog, sockets, started_at),
        reread=reread,
        adopt=adopt_log,
        notifier=notifier,
        hung_up=lambda: on_terminal and not os.isatty(STDERR),
    )
    feeder = asyncio.create_task(watchdog.run(), name="watchdog")
    try:
        with watchdog.holding([life.liveness]):
            await life.run(settings)
    finally:
        feeder.cancel()
        await asyncio.wait([feeder])


def adopt_log(settings: Settings) -> None:
    """Make the log follow settings, and say what is odd about them; raises ``ConfigError``."""
    logs.configure(settings)
    for warning in settings.warnings:
        _log.warning("setting", problem=warning)
