"""What an error of etcd means to a user of the store: its text with the mend. Pure.

Tests: ``tests/integration/controlplane/test_etcd_faults.py``.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from agent.controlplane.store.contract import (
    Compacted,
    InvalidTransaction,
    LeaseUnknown,
    StoreDamaged,
    StoreFailure,
    StoreFull,
    StoreUnavailable,
)
from agent.errors import BAD_JSON

_UNAVAILABLE_CODES: Final = frozenset({1, 2, 4, 13, 14})
"""gRPC: cancelled, unknown, deadline exceeded, internal, unavailable."""


class _Problem(Struct):
    error: str = ""
    message: str = ""
    code: int = 0


class TokenRefused(StoreFailure):
    """The token has ended; the call did nothing."""


def failure_of(endpoint: str, answer: bytes) -> StoreFailure:
    """Return what an error of etcd means to a user of the store."""
    try:
        problem = msgspec.json.decode(answer, type=_Problem)
    except BAD_JSON:
        if answer.startswith(b"CommonName of client"):
            return StoreFailure(
                f"{endpoint} with users admits no client certificate that has a common name; use one without"
            )
        return StoreUnavailable(f"{endpoint} is no etcd: {answer[:100]!r}")
    text = problem.error or problem.message
    for words, make in _MEANINGS:
        if words in text:
            return make(endpoint, text)
    if problem.code in _UNAVAILABLE_CODES:
        return StoreUnavailable(f"{endpoint}: {text}")
    return StoreFailure(f"{endpoint} refused a call: {text}")


def _full(endpoint: str, text: str) -> StoreFailure:
    return StoreFull(
        f"etcd is full ({endpoint}: {text}): raise its --quota-backend-bytes, or delete other keys; then "
        "`etcdctl defrag --cluster` and `etcdctl alarm disarm`"
    )


def _too_large(_endpoint: str, text: str) -> StoreFailure:
    return InvalidTransaction(
        f"the transaction is too large for etcd ({text}); its limit is 1.5 MiB (--max-request-bytes)"
    )


def _too_many(_endpoint: str, text: str) -> StoreFailure:
    return InvalidTransaction(f"{text}: start etcd with --max-txn-ops of at least 128")


def _denied(endpoint: str, text: str) -> StoreFailure:
    return StoreFailure(
        f"{endpoint}: {text}: give the user a role that may read and write the store's prefix"
    )


def _no_login(endpoint: str, text: str) -> StoreFailure:
    return StoreFailure(
        f"{endpoint} does not admit the user: {text}; check the user and its password file"
    )


def _no_user(endpoint: str, text: str) -> StoreFailure:
    return StoreFailure(
        f"{endpoint} asks for a user ({text}); set ECS_CONTROL_ETCD_USER and ECS_CONTROL_ETCD_PASSWORD_FILE"
    )


def _damaged(endpoint: str, text: str) -> StoreFailure:
    return StoreDamaged(f"{endpoint}: {text}: replace the damaged member of etcd")


_MEANINGS: Final = (
    ("database space exceeded", _full),
    ("requested lease not found", lambda _, text: LeaseUnknown(text)),
    ("required revision has been compacted", lambda _, __: Compacted(0)),
    ("required revision is a future revision", lambda _, text: InvalidTransaction(text)),
    ("request is too large", _too_large),
    ("larger than max", _too_large),
    ("too many operations", _too_many),
    ("invalid auth token", lambda _, text: TokenRefused(text)),
    ("revision of auth store is old", lambda _, text: TokenRefused(text)),
    ("revision in header is old", lambda _, text: TokenRefused(text)),
    ("user name is empty", _no_user),
    ("authentication failed", _no_login),
    ("authentication is not enabled", _no_login),
    ("permission denied", _denied),
    ("corrupt", _damaged),
)
