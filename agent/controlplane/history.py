"""The history of the store: its id, and detection that an older copy replaced the store.

The store itself notices that it was replaced by an older copy if it is opened where the newer one was
(``SqliteStore.seen_revision``). Otherwise the first agent that has seen a newer revision shows it.
In both cases the store gets a new history, above all revisions that anyone is known to have seen, so
that no agent mistakes old revisions for new ones.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import structlog

from agent.controlplane import records
from agent.controlplane.store.contract import Put, as_read

if TYPE_CHECKING:
    from agent.controlplane.store.contract import Store
    from agent.model.wire import Register

BELIEVED_AHEAD = 1 << 32
"""How far ahead of the store an agent may be; no store ever makes that many revisions."""

_log = structlog.get_logger(__name__)


class History:
    """The store's history; one per control endpoint."""

    def __init__(self, store: Store, control_id: str, current: str) -> None:
        self._store = store
        self._control_id = control_id
        self.current = current

    @classmethod
    async def open(cls, store: Store, control_id: str, *, seen_revision: int = 0) -> History:
        """Return the history; a new one if there is none, or if the store is older than before.

        Args:
            store: the store of this history.
            control_id: identifies the store to agents.
            seen_revision: the newest revision that was ever committed on this machine.
        """
        kv = await store.get(records.HISTORY_KEY)
        history = cls(store, control_id, kv.value.decode() if kv is not None else "")
        if kv is None:
            await history._begin(0)
        elif seen_revision > store.revision:
            _log.critical(
                "the store is older than what was committed to it; agents keep their tasks and "
                "report them",
                revision=store.revision,
                committed=seen_revision,
            )
            await history._begin(seen_revision)
        return history

    async def is_behind(self, call: Register, generation: int | None = None) -> bool:
        """Return whether the store is older than what an agent saw; begins a new history then.

        Args:
            call: the registration from the agent.
            generation: the generation of the instance in the store; None if it is not there.
        """
        if not call.seen_history or call.seen_control_id != self._control_id:
            return False
        if call.seen_history != self.current:
            return True
        if generation is not None and generation < call.seen_generation <= BELIEVED_AHEAD:
            _log.critical(
                "the store is an older copy: an agent has registered more often than it knows; agents "
                "keep their tasks and report them",
                hostname=call.resources.hostname,
                generation=generation,
                seen=call.seen_generation,
            )
            await self._begin(self._store.revision)
            return True
        ahead = call.seen_revision - self._store.revision
        if ahead <= 0:
            return False
        if ahead > BELIEVED_AHEAD:
            _log.warning(
                "an agent reports a revision that no store can have",
                hostname=call.resources.hostname,
                revision=call.seen_revision,
            )
            return False
        _log.critical(
            "the store is an older copy: an agent saw a newer revision; agents keep their tasks and "
            "report them",
            hostname=call.resources.hostname,
            revision=self._store.revision,
            seen=call.seen_revision,
        )
        await self._begin(call.seen_revision)
        return True

    async def _begin(self, above: int) -> None:
        """Give the store a new history, unless another process has just done so."""
        old = await self._store.get(records.HISTORY_KEY)
        fresh = uuid.uuid4().hex
        put = Put(records.HISTORY_KEY, fresh.encode())
        await self._store.txn([as_read(records.HISTORY_KEY, old)], [put], above=above, urgent=True)
        kv = await self._store.get(records.HISTORY_KEY)
        self.current = kv.value.decode() if kv is not None else fresh
