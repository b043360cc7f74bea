"""Creates, changes and lists records that have names in their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent.controlplane import access, records
from agent.controlplane.loadbalancing.balancer_records import (
    ListenerRecord,
    LoadBalancerRecord,
    TargetGroupRecord,
)
from agent.controlplane.store.contract import Put, absent
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.controlplane.store.contract import Store

RecordT = TypeVar("RecordT", LoadBalancerRecord, ListenerRecord, TargetGroupRecord)
NamedT = TypeVar("NamedT", LoadBalancerRecord, TargetGroupRecord)


class TooMany(AgentError):
    """The maximum number of load balancers or target groups is reached."""

    def __init__(self, what: str, most: int) -> None:
        super().__init__(f"The maximum number of {what}, {most}, has been reached")


async def listed(
    store: Store, kind: type[RecordT], prefix: str, keys: Iterable[str] | None = None
) -> list[RecordT]:
    """Return all records under a prefix, or only those of some keys under it; each once."""
    if keys is None:
        return [record async for _, record in access.scan(store, kind, prefix)]
    return [found.record for found in (await access.find_many(store, kind, keys)).values()]


async def create(store: Store, key: str, record: NamedT, most: int, what: str) -> NamedT:
    """Create a record and return it, or the one that is already at its key.

    Args:
        store: where it is to be.
        key: ends with its name.
        record: the record.
        most: how many of its kind there may be.
        what: its kind, for people.

    Raises:
        TooMany: there are as many already.
    """
    prefix = key.removesuffix(record.name)
    tries = access.ConflictRetries(key)
    while True:
        found = await access.find(store, type(record), key)
        if found is not None:
            return found.record
        if len((await store.range(prefix, limit=most)).items) >= most:
            raise TooMany(what, most)
        if (await store.txn([absent(key)], [Put(key, records.encode(record))])).succeeded:
            return record
        await tries.again()


async def change(
    store: Store,
    kind: type[NamedT],
    key: str,
    arn: str,
    decide: Callable[[NamedT], NamedT],
    missing: AgentError,
) -> NamedT:
    """Change the record that has an ARN, and return it.

    Args:
        store: where it is.
        kind: its type.
        key: where it is, if it exists; another one of its name may be there instead.
        arn: its ARN.
        decide: as in ``access.change``.
        missing: raised if it does not exist.
    """

    def checked(old: NamedT) -> NamedT:
        if old.arn != arn:
            raise missing
        return decide(old)

    changed = await access.change(store, kind, key, checked)
    if changed is None:
        raise missing
    return changed
