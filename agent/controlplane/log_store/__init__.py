"""The log store: log events of tasks, beside the keys of control and apart from them.

::

    store.py                    what the event loop works with      contract.py   values, bounds, errors
    writer.py  changes.py       one thread changes everything; a commit is one ``fdatasync``
    journal.py  frames.py       the newest events, appended; a torn tail is cut when it is opened
    recent.py                   the same in memory, for readers
    sealing.py  segments.py  blocks.py    a full journal becomes a segment, sorted and compressed
    catalogue.py                groups, streams, and which block is where: SQLite
    catalogue_file.py           its tables and its file
    reading.py  paging.py       pages both ways; which blocks, and what of them
    sweeping.py                 what goes by itself: retention, size, what is dead
    recovery.py  disk.py        opening: replay, damage, leftovers; the files

A batch that was accepted is on the disk; one with an id is taken once, for a day. Memory holds two
journals at most, and what waits is bounded: beyond that ``LogStoreBusy``. Damage of a block costs the
block, of a footer or the catalogue nothing but time (the catalogue is made anew from the segments), and
is told in the log.

Not to be confused with ``agent.logs``, which is how control's own lines look. May touch its directory;
knows nothing of APIs and wires. Tests: ``tests/unit/controlplane/log_store``,
``tests/integration/controlplane/test_log_store_kill.py``.
"""
