"""What the store itself keeps in etcd: its format, how its revisions are shifted, and an import that is not finished.

Tests: ``tests/unit/controlplane/store``.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from agent.controlplane.store.contract import StoreFailure
from agent.controlplane.store.etcd_words import (
    FORMAT,
    RangeAnswer,
    RawKv,
    Revisions,
    TxnAnswer,
    Words,
    end_of,
)
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from agent.controlplane.store.etcd_client import EtcdClient
    from agent.controlplane.store.etcd_settings import EtcdSettings


class OwnKeys(dict[bytes, RawKv]):
    """All of them, by etcd's key."""

    def __init__(self, answer: RangeAnswer) -> None:
        super().__init__((kv.key, kv) for kv in answer.kvs)
        self.revision = answer.header.revision
        """Of etcd, at which they are so."""

    @classmethod
    async def read(cls, client: EtcdClient, words: Words, *, moving: bool) -> OwnKeys:
        """Read them.

        Args:
            client: of etcd.
            words: of the store.
            moving: whether this is for an import, which may find its own unfinished work.

        Raises:
            StoreFailure: an import has not finished, or etcd refuses.
            StoreUnavailable: etcd does not answer.
        """
        first = words.own("")
        body = {"key": first, "range_end": end_of(first)}
        found = cls(await client.read("/v3/kv/range", body, RangeAnswer, urgent=True))
        if words.own("moving") in found and not moving:
            raise StoreFailure(
                f"an import into {words.prefix} of etcd has not finished; repeat `ecs-agent control import`"
            )
        return found

    def revisions(self, words: Words) -> Revisions:
        """Return the store's revisions; raises ``StoreFailure`` if they cannot be read."""
        return revisions(self.get(words.own("revisions")))


async def prepare(client: EtcdClient, settings: EtcdSettings, *, makes: bool) -> str:
    """Make a new store, or check the one that is there; returns what identifies it.

    Args:
        client: of etcd.
        settings: where the store is.
        makes: whether to make one that is not there.

    Raises:
        StoreFailure: there is none, or one that this program does not know.
        StoreUnavailable: etcd does not answer.
    """
    key = Words(settings.prefix).own("format")
    read = {"request_range": {"key": key}}
    fresh = {"key": key, "value": FORMAT + b" " + uuid.uuid4().hex.encode()}
    body = {
        "compare": [{"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": 0}],
        "success": [{"request_put": fresh}],
        "failure": [read],
    }
    found = await client.read("/v3/kv/range", {"key": key}, RangeAnswer)
    if not found.kvs and not makes:
        raise StoreFailure(f"{settings.shown} has no fleet; check the prefix")
    if not found.kvs:
        await client.change("/v3/kv/txn", body, TxnAnswer)
        found = await client.read("/v3/kv/range", {"key": key}, RangeAnswer)
    value = found.kvs[0].value if found.kvs else b""
    version, _, identity = value.partition(b" ")
    if version != FORMAT or not identity.isalnum():
        raise StoreFailure(
            f"{key.decode()} in etcd is {value!a:.60}, which this program does not know: use the newer "
            "program, or another prefix"
        )
    return identity.decode()


def revisions(kv: RawKv | None) -> Revisions:
    """Return the store's revisions as they are stored; raises ``StoreFailure`` if they cannot be read."""
    if kv is None or not kv.value:
        return Revisions()
    try:
        return Revisions.decode(kv.value)
    except BAD_JSON as error:
        raise StoreFailure(f"{kv.key.decode()} in etcd cannot be read: {error}") from None
