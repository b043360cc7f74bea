"""A secret of this host that must be the same in every process of its agent."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import structlog

from agent.errors import StateFailure
from agent.state.batch import Batch

if TYPE_CHECKING:
    from agent.state.store import StateStore

_log = structlog.get_logger(__name__)


async def kept_secret(store: StateStore, name: str, *, first: str) -> bytes:
    """Return the secret that the store keeps under a name; made the first time.

    One that cannot be saved is returned nevertheless: the disk may be full, and tasks are to run.

    Args:
        store: keeps it.
        name: of the value in the store.
        first: what to take where the store has none; empty for a random one.

    Raises:
        StateFailure: the store cannot be read.
    """
    secret = await store.get_meta(name)
    if secret is None:
        secret = first or secrets.token_hex(32)
        batch = Batch()
        batch.put_meta(name, secret)
        try:
            await store.commit(batch)
        except StateFailure as error:
            _log.warning("a secret of this host not saved", name=name, error=str(error))
    return secret.encode()
