"""Where the control endpoint keeps everything: one contract, and the SQLite store behind it.

``contract.Store`` has etcd's shape, so that etcd's HTTP gateway can stand behind it unchanged:
revisioned keys, compare-and-set transactions, watches from a revision, leases. A watch is an async
iterator and context manager; a step that is cancelled loses nothing; one that asks for a revision
which is gone raises ``Compacted``. ``sqlite_*`` are the parts of the SQLite store: one file, one
thread that writes and commits what waits together; ``watching`` and ``leases`` serve any store.

Each row has a checksum and keys are counted: what a damaged page loses is ``StoreDamaged``, never a
key that is not there. The newest revision is also in a file beside, so that an older copy is known as
one. A full disk fails the changes of that moment and no more.
May touch its directory and nothing else of the control plane. Tests: ``tests/unit/controlplane/store``
(``test_contract.py`` holds every store to the contract), ``tests/integration/controlplane``.
"""
