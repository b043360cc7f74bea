"""Opens the store that the settings name: a file for this process alone, or a fleet's part of an etcd.

With etcd this returns once this process leads. Until then nothing listens, so that agents and load balancers go
to the control that leads.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.controlplane.front.applications import load_models
from agent.controlplane.parts import StorePlace
from agent.controlplane.server.settings import STORE_FILE
from agent.controlplane.store.sqlite import SqliteStore

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from agent.controlplane.server.settings import ControlSettings
    from agent.controlplane.store.contract import Store
    from agent.controlplane.store.etcd_settings import EtcdSettings
    from agent.controlplane.store.leading import Leader
    from agent.controlplane.store.sqlite_check import CheckReport

_log = structlog.get_logger(__name__)


class OpenedStore(NamedTuple):
    """A store that this process may write."""

    store: Store
    seen_revision: int
    back_up: Callable[[Path], Coroutine[Any, Any, CheckReport]]
    """Writes a backup to a new file."""
    warning: Callable[[], str]
    """What an operator should mend, for a person; empty for nothing."""
    place: StorePlace
    lost: asyncio.Event | None = None
    """Set once another process leads; None where none can."""
    jobs: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()


async def open_store(
    settings: ControlSettings,
    cleanup: contextlib.AsyncExitStack,
    standing_by: Callable[[str], None] | None,
) -> OpenedStore:
    """Open the store, and wait until this process leads; ``cleanup`` closes it.

    Raises:
        StoreFailure: the store cannot be opened, or another process has it open.
        ConfigError: files cannot be used, or differ from those of the control that led.
    """
    if settings.etcd is not None:
        return await _open_etcd(settings, settings.etcd, cleanup, standing_by)
    store = await SqliteStore.open(settings.data_dir / STORE_FILE)
    cleanup.push_async_callback(store.close)
    place = StorePlace(str(store.path), lambda: _size_bytes(store.path))
    return OpenedStore(store, store.seen_revision, store.back_up, lambda: "", place)


async def _open_etcd(
    settings: ControlSettings,
    etcd: EtcdSettings,
    cleanup: contextlib.AsyncExitStack,
    standing_by: Callable[[str], None] | None,
) -> OpenedStore:
    # Few need it, and it takes some memory.
    from agent.controlplane.server import site_files  # noqa: PLC0415
    from agent.controlplane.store import portable  # noqa: PLC0415
    from agent.controlplane.store.etcd import EtcdStore  # noqa: PLC0415
    from agent.controlplane.store.leading import Leadership  # noqa: PLC0415

    store = await EtcdStore.open(etcd, data_dir=settings.data_dir)
    cleanup.push_async_callback(store.close)
    await site_files.check(store, settings)

    # What takes long and does not need to lead is done before.
    await load_models()

    def tell(leader: Leader) -> None:
        _log.info("standing by", leader=str(leader))
        if standing_by is not None:
            standing_by(str(leader))

    leadership = await Leadership.acquire(
        store, standing_by=tell, fit=lambda: site_files.check(store, settings)
    )
    cleanup.push_async_callback(leadership.close)
    _log.info("leading", store=etcd.shown)
    return OpenedStore(
        store,
        store.seen_revision,
        lambda target: portable.back_up(store, target),
        store.warning,
        StorePlace(etcd.shown, lambda: store.health.size_bytes),
        leadership.lost,
        (site_files.SiteFiles(store, settings).run,),
    )


def _size_bytes(path: Path) -> int:
    """Return the size of a file of SQLite with what is not in it yet."""
    total = 0
    for one in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(OSError):
            total += one.stat().st_size
    return total
