"""The storage of the control endpoint: one contract, and its implementation with SQLite.

``contract.Store`` is modelled on etcd, so that etcd's HTTP gateway could implement it unchanged:
revisioned keys, compare-and-set transactions, watches from a revision, leases. A watch is an async
iterator and context manager; cancelling a step loses nothing; asking for a revision that is gone
raises ``Compacted``. ``sqlite_*`` are the parts of the SQLite store: one file, and one thread that
writes and commits waiting changes together; ``recent_keys`` answers reads of what was written or read last
from memory; ``watching`` and ``leases`` work for any store.

Each row has a checksum and keys are counted: damage raises ``StoreDamaged`` and never looks like a
missing key. The newest revision is also in a separate file, so that an older copy is recognized. A full
disk only fails the changes made at that time.
May use its directory and nothing else of the control plane. Tests: ``tests/unit/controlplane/store``
(``test_contract.py`` checks every store against the contract), ``tests/integration/controlplane``.
"""
