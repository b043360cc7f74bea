"""Whether control keeps logs, and how much of them; opens their store, which must not keep control down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct

from agent.controlplane.log_store.contract import MIB, Bounds, LogStoreFailure
from agent.controlplane.log_store.store import LogStore

if TYPE_CHECKING:
    from pathlib import Path

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


async def open_logs(settings: LogSettings, data_dir: Path) -> tuple[LogStore | None, str]:
    """Return the store, or why there is none.

    Logs that cannot be opened are told of in the log: tasks are more than their logs.
    """
    if not settings.are_kept:
        return None, "logs are off on this control; start it without --no-logs"
    bounds = Bounds(most_bytes=settings.most_bytes, retention_days=settings.retention_days)
    try:
        return await LogStore.open(data_dir / DIRECTORY, bounds), ""
    except LogStoreFailure as error:
        _log.critical("logs cannot be kept", error=str(error))
        return None, f"this control keeps no logs: {error}"
