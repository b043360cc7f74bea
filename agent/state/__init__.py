"""What the agent must not forget: records, single values and the outbox, in one SQLite file.

::

    store.py  writer.py  batch.py    StateStore: one writer thread, group commit; Batch: all or nothing
    outbox.py                 reports that control has not acknowledged, oldest first; one consumer
    database.py schema.py migration.py    the blocking side (WAL, ``synchronous=FULL``, mode 0600)
    rescue.py salvage.py wal.py    a damaged file is set aside, and every row that can be read kept
    watch.py  removal.py      a file that somebody removes is written anew within a tenth of a second
    mirrored_values.py mirror_file.py    who the host is lies in a second place beside the file too

``commit`` is a plain call that returns a future: durable in call order, and a cancelled wait does not
take the batch back. A full disk fails the commits of that moment (``StateFailure``, retryable) and the
next one tries again. Any failure to read is damage; the start goes on, also where nothing can be read.
Rows that do not decode are set aside (``StateStore.set_aside``). The log is folded into the file 2 s
after the last commit. Touches its directory alone. Tests: ``tests/unit/state``,
``tests/integration/state``.
"""

from agent.state.batch import Batch
from agent.state.outbox import Outbox
from agent.state.store import StateStore

__all__ = ["Batch", "Outbox", "StateStore"]
