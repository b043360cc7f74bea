"""Whether control keeps logs, and how much of them; opens their store, which must not keep control down."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from msgspec import Struct

from agent.controlplane.log_forward.targets import Target
from agent.controlplane.log_store.contract import MIB, Bounds, LogStoreFailure
from agent.controlplane.log_store.store import LogStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from agent.controlplane.log_forward.forwarder import Forwarder

DIRECTORY: Final = "logs"
"""In the data directory of control."""

_log = structlog.get_logger(__name__)


class LogSettings(Struct, frozen=True, kw_only=True):
    """What control does with log events."""

    are_kept: bool = True
    most_bytes: int = 2048 * MIB
    """Of the disk, compressed; beyond it the oldest events go."""
    retention_days: int | None = None
    """Of groups without a policy of their own; None to keep until the size is reached."""
    forward: tuple[Target, ...] = ()
    """Where all that is taken goes, too."""


class KeptLogs(NamedTuple):
    """The logs of a control that runs."""

    store: LogStore | None
    none_because: str = ""
    """Why there is no store."""
    is_down: bool = False
    """Whether there should be one."""
    forwarders: Sequence[Forwarder] = ()


@contextlib.asynccontextmanager
async def keep_logs(settings: LogSettings, data_dir: Path) -> AsyncIterator[KeptLogs]:
    """Yield the store and what forwards from it; close them at the end of the block.

    Logs that cannot be opened are told of in the log: tasks are more than their logs.

    Raises:
        ConfigError: a destination, or a variable about keys or proxies, cannot be used.
    """
    if not settings.are_kept:
        yield KeptLogs(None, "logs are off on this control; start it without --no-logs")
        return
    bounds = Bounds(most_bytes=settings.most_bytes, retention_days=settings.retention_days)
    try:
        store = await LogStore.open(data_dir / DIRECTORY, bounds)
    except LogStoreFailure as error:
        _log.critical("logs cannot be kept", error=str(error))
        yield KeptLogs(
            None, f"logs cannot be kept: {error}; mend it and restart control", is_down=True
        )
        return
    usage = await store.usage()
    _log.info(
        "logs are kept",
        directory=str(store.directory),
        mib=usage.taken_bytes // MIB,
        of_mib=usage.most_bytes // MIB,
        segments=usage.segments,
    )
    try:
        async with _forwarders(store, settings.forward) as made:
            yield KeptLogs(store, forwarders=made)
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def _forwarders(store: LogStore, targets: Sequence[Target]) -> AsyncIterator[list[Forwarder]]:
    if not targets:
        yield []
        return
    # What it brings along is for those alone who forward.
    from agent.controlplane.log_forward.forwarding import forwarders  # noqa: PLC0415

    async with forwarders(store, targets) as made:
        yield made
