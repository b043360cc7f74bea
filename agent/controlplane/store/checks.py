"""What every store checks before it does a transaction: pure.

Tests: ``tests/unit/controlplane/store/test_contract.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.store.contract import TXN_LIMIT, DeletePrefix, InvalidTransaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent.controlplane.store.contract import Compare, Op

REVISION_LIMIT: Final = 1 << 42
"""No store ever has that many revisions; well below the last one that fits in the id of a row of SQLite."""


def check_txn(
    compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], above: int = 0
) -> None:
    """Raise ``InvalidTransaction`` if a transaction breaks the contract."""
    if above >= REVISION_LIMIT:
        raise InvalidTransaction(f"no store can have the revision {above}")
    if len(compares) > TXN_LIMIT:
        raise InvalidTransaction(f"{len(compares)} compares in a transaction, at most {TXN_LIMIT}")
    for compare in compares:
        check_key(compare.key)
        if isinstance(compare.value, bytes) != (compare.field == "value"):
            raise InvalidTransaction(
                f"{compare.field} of {compare.key} compared with {compare.value!r}"
            )
    _check_ops(then)
    _check_ops(otherwise)


def check_many(keys: Iterable[str]) -> list[str]:
    """Return keys that are to be read together, each once; raises ``InvalidTransaction`` for too many."""
    wanted = list(dict.fromkeys(keys))
    if len(wanted) > TXN_LIMIT:
        raise InvalidTransaction(f"{len(wanted)} keys at once, at most {TXN_LIMIT}")
    return wanted


def check_key(key: str) -> None:
    """Raise ``InvalidTransaction`` for a key that no store can have."""
    if not key:
        raise InvalidTransaction("a key or prefix in a transaction is empty")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidTransaction(f"key {key!a} is not valid text: {error}") from None


def _check_ops(ops: Sequence[Op]) -> None:
    if len(ops) > TXN_LIMIT:
        raise InvalidTransaction(f"{len(ops)} operations in a transaction, at most {TXN_LIMIT}")
    keys = [op.key for op in ops if not isinstance(op, DeletePrefix)]
    prefixes = [op.prefix for op in ops if isinstance(op, DeletePrefix)]
    for key in keys + prefixes:
        check_key(key)
    twice = len(set(keys)) != len(keys)
    overlapping = any(key.startswith(prefix) for prefix in prefixes for key in keys) or any(
        a.startswith(b) for i, a in enumerate(prefixes) for j, b in enumerate(prefixes) if i != j
    )
    if twice or overlapping:
        raise InvalidTransaction("a transaction touches a key twice")
