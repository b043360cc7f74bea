"""Problems of the store for the operator: each is kept as a sentence and logged once.

Belongs to the event loop. Only the store writes to it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.state.removal import Found

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.errors import StateFailure
    from agent.state.database import SetAside

REMOVAL_TOLD_S: Final = 3600.0
"""How long the removal of an open file is shown to the operator."""

_log = structlog.get_logger()


class Troubles:
    """Current and past problems of one state file."""

    def __init__(self, path: Path) -> None:
        self.failure: StateFailure | None = None
        """The failure of the last write; None once a write succeeds."""
        self.set_aside: list[SetAside] = []
        """All rows that were ever unreadable; their bodies are in the table ``set_aside``."""
        self._path = path
        self._notes: list[str] = []
        self._another = ""
        self._removed = ""
        self._removed_at = 0.0
        self._second = ""

    @property
    def sentences(self) -> list[str]:
        """One sentence per problem; empty if there is none."""
        found = list(self._notes)
        if self.set_aside:
            last = self.set_aside[-1]
            found.append(
                f"{len(self.set_aside)} unreadable row(s) set aside in {self._path}"
                f" (table set_aside), the last one {last.kind} {last.key!r}: {last.error}"
            )
        if self._another:
            found.append(self._another)
        if self._removed and time.monotonic() - self._removed_at < REMOVAL_TOLD_S:
            found.append(self._removed)
        if self._second:
            found.append(self._second)
        if self.failure is not None:
            found.append(str(self.failure))
        return found

    def opened(self, notes: Iterable[str], set_aside: Iterable[SetAside]) -> None:
        """Record notes from opening the file, and the rows that were set aside before."""
        self.set_aside.extend(set_aside)
        for note in notes:
            self._notes.append(note)
            _log.error("state lost or damaged", note=note)

    def unreadable(self, moved: list[SetAside], trouble: list[str]) -> None:
        """Record rows that were set aside, and rows for which that failed."""
        self.set_aside.extend(moved)
        self._notes.extend(text for text in trouble if text not in self._notes)
        for row in moved:
            _log.error("row set aside", kind=row.kind, key=row.key, error=row.error)
        for text in trouble:
            _log.error("row unreadable", error=text)

    def failed(self, failure: StateFailure) -> None:
        """Record that a write failed because of the disk."""
        if self.failure is None:
            _log.error("state file not writable", error=str(failure))
        self.failure = failure

    def written(self) -> None:
        """Record that a write succeeded."""
        if self.failure is not None:
            self.failure = None
            _log.info("state file writable again", path=str(self._path))

    def found(self, found: Found) -> None:
        """Record that the file at the path had changed."""
        if found is Found.PUT_BACK:
            self.removed("the state file")
        if found is Found.LOG_PUT_BACK:
            self.removed("the state file's log")
        self._another = ""
        if found is Found.ANOTHER:
            self._another = (
                f"{self._path} was replaced while the agent had it open: what the agent writes now is "
                "lost when it stops; restart it now to use the new file"
            )
            _log.error("the state file was replaced", trouble=self._another)

    def removed(self, what: str) -> None:
        """Record that somebody removed a file, and that it was written again."""
        _log.error(f"{what} was removed; it was written again", path=str(self._path))
        self._removed = f"{what} ({self._path}) was removed at {time.ctime()}; it was written again"
        self._removed_at = time.monotonic()

    def second_place(self, trouble: str) -> None:
        """Record that the mirror cannot be written, or, with an empty text, that it can again."""
        self._second = trouble
        if trouble:
            _log.warning("mirror of the identity not written", trouble=trouble)
