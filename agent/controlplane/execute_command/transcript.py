"""Output of a session as log events of control, where the configuration of the cluster asks for it.

A line is an event, in a stream with the id of the session. What was typed is in it as far as the terminal
echoes it, as on Amazon ECS.
"""

from __future__ import annotations

import asyncio
import codecs
from typing import TYPE_CHECKING, Final

from agent.controlplane.log_store.changes import Batch
from agent.controlplane.log_store.contract import GroupMissing
from agent.controlplane.store.contract import StoreFailure
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.controlplane.log_store.store import LogStore

GATHERED: Final = 16 * 1024
"""Characters after which lines are stored, before the session ends."""
STORE_S: Final = 30.0


class TranscriptFailed(AgentError):
    """Output cannot be logged, so the session must end; the text says why."""


class Transcript:
    """What one session wrote. Without a store, nothing is kept."""

    def __init__(self, store: LogStore | None, group: str, session_id: str) -> None:
        self._store = store
        self._group = group
        self._stream = session_id
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text: list[str] = []
        self._size = 0

    async def add(self, data: bytes) -> None:
        """Take output; raises ``TranscriptFailed``."""
        if self._store is None:
            return
        text = self._decoder.decode(data)
        self._text.append(text)
        self._size += len(text)
        if self._size >= GATHERED:
            await self._flush(whole_lines=True)

    async def finish(self) -> None:
        """Store the rest; raises ``TranscriptFailed``."""
        if self._store is not None:
            await self._flush(whole_lines=False)

    async def _flush(self, *, whole_lines: bool) -> None:
        text = "".join(self._text)
        lines = text.replace("\r\n", "\n").split("\n")
        # A line without an end that is as long as this is not waited for.
        rest = lines.pop() if whole_lines and len(lines) > 1 else ""
        self._text, self._size = [rest], len(rest)
        shown = [line for line in lines if line]
        if self._store is None or not shown:
            return
        now_ms = int(self._store.clock() * 1000)
        batch = Batch(
            group=self._group,
            stream=self._stream,
            times=[now_ms] * len(shown),
            messages=shown,
            make_stream=True,
        )
        try:
            async with asyncio.timeout(STORE_S):
                await self._store.append(batch)
        except (GroupMissing, StoreFailure, TimeoutError) as error:
            why = (
                f"there is no log group {self._group}"
                if isinstance(error, GroupMissing)
                else str(error) or "the log store does not answer"
            )
            raise TranscriptFailed(f"the session cannot be logged any more: {why}") from None
