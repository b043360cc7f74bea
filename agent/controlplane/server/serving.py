"""Runs a control endpoint: opens everything, tells that it is ready, and ends it when it is to stop.

``serve`` returns within two seconds of a stop request, even while polls are held.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from agent.controlplane.front import address as address_file
from agent.controlplane.front.sites import parse_listen
from agent.controlplane.server import background
from agent.controlplane.server.doors import Doors
from agent.controlplane.server.opening import open_all
from agent.controlplane.server.reloading import reload_when_asked
from agent.controlplane.store.contract import StoreFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from agent.controlplane.server.opening import Opened
    from agent.controlplane.server.settings import ControlSettings

_log = structlog.get_logger(__name__)


async def serve(
    settings: ControlSettings,
    *,
    ready: Callable[[str, int], None],
    stop: asyncio.Event,
    reload: asyncio.Event | None = None,
    standing_by: Callable[[str], None] | None = None,
) -> None:
    """Run a control endpoint until ``stop`` is set.

    Args:
        settings: where to listen and where to store state.
        ready: called once with host and port of ``listen`` when all addresses answer calls.
        stop: set it to stop; held polls are answered, and accepted calls are finished.
        reload: set it to reload keys and tokens; if a file is invalid, this is logged and the old
            ones stay in use.
        standing_by: called while another control leads the same fleet in etcd, with its name; this one serves
            nothing until that one ends.

    Raises:
        StoreFailure: the store cannot be opened, another process has it open, or another control leads now.
        ListenFailure: an address cannot be bound.
        ConfigError: an address is invalid, the TLS files, keys or tokens cannot be used, or calls of a service
            that is served here are to be sent on.
    """
    _check_addresses(settings)
    await asyncio.to_thread(_make_folders, settings.data_dir)
    async with contextlib.AsyncExitStack() as cleanup:
        opened = await _unless_stopped(open_all(settings, cleanup, standing_by), stop)
        if opened is None:
            return
        doors = await Doors.open(settings, opened, cleanup)
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(run(), name=name)
                for name, run in background.jobs(settings, opened).items()
            ]
            asked = reload or asyncio.Event()
            reloads = reload_when_asked(opened, doors.access, doors.readers, asked)
            running.append(group.create_task(reloads, name="reload"))
            host, port = doors.front.operators
            _log.info(
                "control endpoint ready",
                host=host,
                port=port,
                agents=doors.front.agents,
                region=settings.region,
            )
            await address_file.keep(
                settings.data_dir,
                doors.address(settings),
                lambda tries: running.append(group.create_task(tries, name="address")),
            )
            ready(host, port)
            await _first_of(stop, opened.kept.lost)
            doors.end_held_calls()
            for task in running:
                task.cancel()
    _log.info("control endpoint stopped")
    if opened.kept.lost is not None and opened.kept.lost.is_set() and not stop.is_set():
        raise StoreFailure(
            "another control leads this fleet now; started again, this one stands by"
        )


async def _unless_stopped(
    opening: Coroutine[Any, Any, Opened], stop: asyncio.Event
) -> Opened | None:
    """Return what was opened; None if control was stopped before, such as while it stood by."""
    opens, stops = asyncio.ensure_future(opening), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((opens, stops), return_when=asyncio.FIRST_COMPLETED)
        return opens.result() if opens.done() else None
    finally:
        for each in (opens, stops):
            each.cancel()
        await asyncio.gather(opens, stops, return_exceptions=True)


async def _first_of(stop: asyncio.Event, lost: asyncio.Event | None) -> None:
    waiting = [asyncio.ensure_future(one.wait()) for one in (stop, lost) if one is not None]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


def _check_addresses(settings: ControlSettings) -> None:
    for address in (settings.listen, *settings.agent_listen):
        parse_listen(address)


def _make_folders(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # On a full disk, control starts all the same; a program that then cannot run says so.
    with contextlib.suppress(OSError):
        (data_dir / background.HOOK_RUNS).mkdir(mode=0o700, exist_ok=True)
