"""The agent's durable state: records, single values and the outbox, in one SQLite file.

::

    store.py  writer.py  batch.py    StateStore: one writer thread, group commit; Batch: all or nothing
    outbox.py                 reports that control has not acknowledged, oldest first; one consumer
    database.py state_file.py schema.py migration.py    the blocking side (WAL, ``synchronous=FULL``,
                              mode 0600)
    rescue.py salvage.py wal.py    set a damaged file aside, and recover every readable row
    watch.py  removal.py      write a removed state file again within a tenth of a second
    mirrored_values.py mirror_file.py    keep the host's identity in a second file, the mirror

``commit`` is a plain call that returns a future. Batches become durable in call order, and
cancelling the wait does not cancel the batch. While the disk is full, commits fail with
``StateFailure`` (retryable), and the next commit tries again. Any failure to read counts as damage;
the agent starts even if nothing can be read. Rows that cannot be decoded are set aside
(``StateStore.set_aside``). The WAL is checkpointed 2 s after the last commit. Accesses only its own
directory. Tests: ``tests/unit/state``, ``tests/integration/state``.
"""

from agent.state.batch import Batch
from agent.state.outbox import Outbox
from agent.state.store import StateStore

__all__ = ["Batch", "Outbox", "StateStore"]
