"""Takes calls on the event loop, and has a thread make and write their records.

No call waits for the disk or fails because of it: what cannot be written is lost, counted, told in the log and among
control's problems. After a failure, the next records are tried all the same.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane.audit import reading
from agent.controlplane.audit.files import TrailFile
from agent.controlplane.audit.record import encode, record
from agent.errors import ConfigError
from agent.write_lane import WriteLane

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controlplane.audit.files import AuditSettings
    from agent.controlplane.audit.reading import Page, Place, Wanted
    from agent.controlplane.audit.record import AuditedCall

WAITING_MOST_BYTES: Final = 32 * 2**20
"""Requests and responses whose records are not written yet."""
CLOSE_LIMIT_S: Final = 1.0
READ_MOST_BYTES: Final = 32 * 2**20
"""Of the files for one page. A page that ends there says where the next one begins, and may be empty."""
_READERS: Final = 2
_CALL_BYTES: Final = 1024
"""What a call takes beside its bodies."""
_UNUSABLE: Final = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""What does not mend itself, as a full disk may."""

_log = structlog.get_logger(__name__)


class Trail:
    """The audit trail of one control endpoint. ``close`` it."""

    def __init__(self, file: TrailFile, settings: AuditSettings) -> None:
        """Take what ``open`` made."""
        self._file = file
        self._settings = settings
        self._problem = ""
        self._readers = asyncio.Semaphore(_READERS)
        self.written = 0
        """Records, since the start."""
        self.lost = 0
        """Calls whose records could not be written, since the start."""
        self._lane: WriteLane[AuditedCall] = WriteLane(
            self._write, most=WAITING_MOST_BYTES, name="audit-trail"
        )

    @classmethod
    async def open(cls, settings: AuditSettings) -> Trail:
        """Begin a trail.

        A full disk is no reason not to begin.

        Raises:
            ConfigError: the file can never be written; the text says why.
        """
        file = TrailFile(settings)
        try:
            await asyncio.to_thread(file.check)
        except OSError as error:
            if error.errno in _UNUSABLE:
                raise ConfigError(
                    f"audit file {settings.file}: {error.strerror}; choose another file, or turn the audit trail "
                    "off"
                ) from None
            _log.error("audit file cannot be opened", error=error.strerror, file=str(settings.file))
        return cls(file, settings)

    @property
    def path(self) -> Path:
        """The file of the newest records."""
        return self._settings.file

    def problem(self) -> str:
        """Return what is wrong, for a person; empty while records are written."""
        return self._problem

    def note(self, call: AuditedCall, size_bytes: int = 0) -> None:
        """Have the record of a call written. Returns at once, and never raises.

        Args:
            call: the call; neither its request nor its response may change from now on.
            size_bytes: of its request and its response, as they were sent.
        """
        if not self._lane.put(call, size_bytes + _CALL_BYTES):
            self._lose(1, "the disk is too slow")

    async def page(self, wanted: Wanted, start: Place | None, *, most: int) -> Page:
        """Return records before a place, newest first; raises ``OSError``.

        Two at a time read; others wait for their turn.
        """
        async with self._readers:
            return await asyncio.to_thread(
                reading.page,
                self.path,
                wanted,
                start=start,
                most=most,
                most_bytes=READ_MOST_BYTES,
            )

    async def close(self) -> None:
        """Write what waits, but not for long; may be repeated."""
        await asyncio.to_thread(self._lane.close, CLOSE_LIMIT_S)

    def _write(self, calls: list[AuditedCall]) -> None:
        """Write records of calls; in the thread."""
        lines = []
        for call in calls:
            try:
                lines.append(encode(record(call)))
            except Exception as error:  # noqa: BLE001 - one call must not end the trail
                # No text of the error: it may have a value of the request in it.
                self._lose(
                    1, f"a record of {call.operation} cannot be made ({type(error).__name__})"
                )
        try:
            if lines:
                self._file.append(lines)
        except OSError as error:
            self._lose(len(lines), error.strerror or "cannot be written")
            return
        self.written += len(lines)
        if self._problem and lines:
            self._problem = ""
            _log.warning("audit records are written again", lost=self.lost, file=str(self.path))

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        if not self._problem:
            # Once, and not for each call: the number is among the metrics.
            _log.error("audit records are lost", error=why, file=str(self.path))
        self._problem = f"audit records are lost: {self.path}: {why}"
