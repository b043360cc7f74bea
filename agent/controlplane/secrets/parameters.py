"""Parameters, as Parameter Store has them: a name, a type, one value and a version that grows with it.

Older values are not kept. All types are encrypted. Source: the API reference of AWS Systems Manager.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.secrets import secret_records
from agent.controlplane.secrets.keeper import PARAMETER
from agent.controlplane.secrets.secret_records import ParameterRecord
from agent.controlplane.store.contract import Delete, Put, absent, unchanged
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from agent.controlplane.secrets.keeper import SecretKeeper

SECURE = "SecureString"


class ParameterExists(AgentError):
    """There is such a parameter, and it was not to be overwritten."""


class TypeMissing(AgentError):
    """A new parameter needs a type."""


async def put(  # noqa: PLR0913 - all that makes a parameter
    keeper: SecretKeeper,
    name: str,
    value: str,
    *,
    kind: str = "",
    description: str | None = None,
    overwrite: bool,
    tags: Mapping[str, str] | None = None,
    now: float,
    by: str = "",
) -> ParameterRecord:
    """Store a value as the next version of a parameter, and return it.

    Args:
        keeper: seals it.
        name: of the parameter; checked.
        value: the value.
        kind: its type; that of the parameter by default.
        description: that of the parameter by default.
        overwrite: whether there may be such a parameter.
        tags: of a new parameter; an old one keeps its own.
        now: Unix seconds.
        by: ARN of who gives the value; empty for the root.

    Raises:
        ParameterExists: there is one, and it is not to be overwritten.
        TypeMissing: there is none, and no type is given.
        SecretsFailure: it cannot be sealed.
    """
    key = secret_records.parameter_key(name)
    tries = access.ConflictRetries(key)
    async with keeper.storing:
        while True:
            found = await access.find(keeper.store, ParameterRecord, key)
            if found is not None and not overwrite:
                raise ParameterExists(name)
            if found is None and not kind:
                raise TypeMissing(name)
            version = found.record.version + 1 if found is not None else 1
            sealed = await keeper.seal(value, (PARAMETER, name, str(version)))
            old = (
                found.record
                if found is not None
                else ParameterRecord(name=name, type=kind, value=sealed, tags=dict(tags or {}))
            )
            new = replace(
                old,
                type=kind or old.type,
                value=sealed,
                version=version,
                description=old.description if description is None else description,
                modified_at=now,
                modified_by=by,
            )
            compare = absent(key) if found is None else unchanged(found.kv)
            if (await keeper.store.txn([compare], [Put(key, records.encode(new))])).succeeded:
                return new
            await tries.again()


async def find(keeper: SecretKeeper, name: str) -> ParameterRecord | None:
    """Return a parameter by its name."""
    found = await access.find(keeper.store, ParameterRecord, secret_records.parameter_key(name))
    return found.record if found is not None else None


async def find_by_arn_name(keeper: SecretKeeper, name: str) -> ParameterRecord | None:
    """Return a parameter by its name in an ARN, which leaves out the first slash."""
    return await find(keeper, f"/{name}") or await find(keeper, name)


def value_of(keeper: SecretKeeper, record: ParameterRecord) -> str:
    """Return the value of a parameter; raises ``SecretsFailure``."""
    return keeper.unseal(record.value, (PARAMETER, record.name, str(record.version)))


async def change_tags(
    keeper: SecretKeeper, name: str, decide: Callable[[Mapping[str, str]], dict[str, str]]
) -> bool:
    """Change the tags of a parameter; return whether there is one.

    Args:
        keeper: keeps it.
        name: of the parameter.
        decide: pure; returns the new tags, and may raise to refuse.
    """
    changed = await access.change(
        keeper.store,
        ParameterRecord,
        secret_records.parameter_key(name),
        lambda old: replace(old, tags=decide(old.tags)),
    )
    return changed is not None


async def delete(keeper: SecretKeeper, name: str) -> bool:
    """Delete a parameter; return whether there was one."""
    key = secret_records.parameter_key(name)
    tries = access.ConflictRetries(key)
    while True:
        kv = await keeper.store.get(key)
        if kv is None:
            return False
        if (await keeper.store.txn([unchanged(kv)], [Delete(key)])).succeeded:
            return True
        await tries.again()


async def every(keeper: SecretKeeper, *, start_after: str = "") -> AsyncIterator[ParameterRecord]:
    """Yield the parameters behind a name, by name."""
    after = secret_records.parameter_key(start_after) if start_after else None
    async for _, record in access.scan(
        keeper.store, ParameterRecord, secret_records.PARAMETERS, start_after=after
    ):
        yield record
