"""Secrets with versions, as Secrets Manager has them.

A version has an id and stages; ``AWSCURRENT`` is at exactly one, ``AWSPREVIOUS`` at the one that had it
before. A version without a stage is forgotten. A deleted secret keeps its values until its recovery window
ends. Source: the API reference and the user guide of AWS Secrets Manager.
"""

from __future__ import annotations

import secrets
import string
import uuid
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.secrets import secret_records
from agent.controlplane.secrets.keeper import SECRET
from agent.controlplane.secrets.secret_records import SecretRecord, SecretVersionRecord
from agent.controlplane.store.contract import Delete, Put, absent, unchanged
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from agent.controlplane.access import Found
    from agent.controlplane.names import Names
    from agent.controlplane.secrets.keeper import SecretKeeper

CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"
STAGES_MOST: Final = 20
"""Of all versions of one secret."""
_SUFFIX: Final = string.ascii_letters + string.digits
_SUFFIX_LENGTH: Final = 6
_DAY_S: Final = 24 * 3600.0


class SecretMissing(AgentError):
    """There is no such secret, or no such version of it."""


class SecretExists(AgentError):
    """There is such a secret, or such a version with another value."""


class SecretDeleted(AgentError):
    """The secret is marked for deletion."""


class StageMisplaced(AgentError):
    """A stage is not where a call takes it from, or may not be moved."""


class TooManyStages(AgentError):
    """A secret would have more stages than it may have."""


async def create(  # noqa: PLR0913 - all that makes a secret
    keeper: SecretKeeper,
    names: Names,
    name: str,
    *,
    value: str | None,
    is_binary: bool = False,
    version_id: str = "",
    description: str = "",
    tags: Mapping[str, str] | None = None,
    now: float,
) -> SecretRecord:
    """Create a secret, with a first value or none, and return it.

    Raises:
        SecretExists: there is one; one that is the same by its version's id is returned.
        SecretDeleted: there is one that is marked for deletion.
        SecretsFailure: the value cannot be sealed.
    """
    key = secret_records.secret_key(name)
    async with keeper.storing:
        found = await access.find(keeper.store, SecretRecord, key)
        if found is not None:
            return _same(keeper, found.record, version_id, value)
        suffix = "".join(secrets.choice(_SUFFIX) for _ in range(_SUFFIX_LENGTH))
        made = SecretRecord(
            name=name,
            arn=names.stored_secret(f"{name}-{suffix}"),
            description=description,
            tags=dict(tags or {}),
            created_at=now,
            changed_at=now,
        )
        if value is not None:
            version = await _version(keeper, name, version_id, value, is_binary=is_binary, now=now)
            made = replace(made, versions=[replace(version, stages=[CURRENT])])
        if (await keeper.store.txn([absent(key)], [Put(key, records.encode(made))])).succeeded:
            return made
    raise SecretExists(name)


async def put_value(  # noqa: PLR0913 - all that makes a version
    keeper: SecretKeeper,
    given: str,
    value: str,
    *,
    is_binary: bool = False,
    version_id: str = "",
    stages: Sequence[str] = (CURRENT,),
    description: str | None = None,
    now: float,
) -> tuple[SecretRecord, SecretVersionRecord]:
    """Store a value as a new version of a secret; return both.

    Args:
        keeper: seals it.
        given: name or ARN of the secret.
        value: the value, binary ones in base64.
        is_binary: whether it is.
        version_id: id of the version; the same again with the same value changes nothing.
        stages: that are at this version from now on, and at no other.
        description: of the secret; None to leave it.
        now: Unix seconds.

    Raises:
        SecretMissing: there is no such secret.
        SecretDeleted: it is marked for deletion.
        SecretExists: there is such a version with another value.
        TooManyStages: it would have too many.
        SecretsFailure: the value cannot be sealed.
    """
    async with keeper.storing:
        found = await _find(keeper, given)
        tries = access.ConflictRetries(found.kv.key)
        while True:
            old = alive(found.record)
            known = next((v for v in old.versions if v.id == version_id), None)
            if known is not None:
                if keeper.unseal(known.value, (SECRET, old.name, known.id)) != value:
                    raise SecretExists(
                        f"The version {version_id} of the secret exists with another value."
                    )
                version = known
            else:
                version = await _version(
                    keeper, old.name, version_id, value, is_binary=is_binary, now=now
                )
            new = replace(
                old,
                versions=staged(old.versions, version, stages),
                description=old.description if description is None else description,
                changed_at=now,
            )
            put = Put(found.kv.key, records.encode(new))
            if (await keeper.store.txn([unchanged(found.kv)], [put])).succeeded:
                return new, next(v for v in new.versions if v.id == version.id)
            await tries.again()
            found = await _find(keeper, given)


async def move_stage(
    keeper: SecretKeeper, given: str, stage: str, *, to: str, from_: str, now: float
) -> SecretRecord:
    """Move a stage between versions, or take it from one; return the secret.

    Args:
        keeper: keeps it.
        given: name or ARN of the secret.
        stage: the stage.
        to: id of the version that gets it; empty for none.
        from_: id of the version that has it; empty if none has.
        now: Unix seconds.

    Raises:
        SecretMissing: there is no such secret, or no such version.
        SecretDeleted: it is marked for deletion.
        StageMisplaced: another version has the stage, or ``AWSCURRENT`` would be nowhere.
        TooManyStages: it would have too many.
    """

    def decide(old: SecretRecord) -> SecretRecord:
        return replace(alive(old), versions=_moved(old.versions, stage, to, from_), changed_at=now)

    return await change(keeper, given, decide)


async def find(keeper: SecretKeeper, given: str) -> SecretRecord:
    """Return a secret by name or ARN, be it marked for deletion; raises ``SecretMissing``."""
    return (await _find(keeper, given)).record


def version_of(
    record: SecretRecord, *, version_id: str = "", stage: str = ""
) -> SecretVersionRecord:
    """Return the version that is asked for, the current one by default. Pure.

    Raises:
        SecretMissing: there is none.
        SecretDeleted: the secret is marked for deletion.
    """
    alive(record)
    wanted = stage or ("" if version_id else CURRENT)
    for version in record.versions:
        if version_id in ("", version.id) and (not wanted or wanted in version.stages):
            return version
    raise SecretMissing(
        f"Secrets Manager can't find the specified secret value for {_asked(version_id, wanted)}"
    )


def value_of(keeper: SecretKeeper, record: SecretRecord, version: SecretVersionRecord) -> str:
    """Return the value of a version; raises ``SecretsFailure``."""
    return keeper.unseal(version.value, (SECRET, record.name, version.id))


async def delete(keeper: SecretKeeper, given: str, *, window_days: int, now: float) -> SecretRecord:
    """Mark a secret for deletion, or delete it at once where the window has no days; return it.

    Raises:
        SecretMissing: there is none.
        SecretDeleted: it is marked already.
    """
    if window_days:
        at = now + window_days * _DAY_S
        return await change(keeper, given, lambda old: replace(alive(old), deleted_at=at))
    found = await _find(keeper, given)
    tries = access.ConflictRetries(found.kv.key)
    delete_it = [Delete(found.kv.key)]
    while not (await keeper.store.txn([unchanged(found.kv)], delete_it)).succeeded:
        await tries.again()
        found = await _find(keeper, given)
    return replace(found.record, deleted_at=now)


async def restore(keeper: SecretKeeper, given: str) -> SecretRecord:
    """Take back the deletion of a secret; raises ``SecretMissing``."""
    return await change(keeper, given, lambda old: replace(old, deleted_at=0.0))


async def every(keeper: SecretKeeper, *, start_after: str = "") -> AsyncIterator[SecretRecord]:
    """Yield the secrets behind a name, by name."""
    after = secret_records.secret_key(start_after) if start_after else None
    async for _, record in access.scan(
        keeper.store, SecretRecord, secret_records.SECRETS, start_after=after
    ):
        yield record


async def sweep(keeper: SecretKeeper, now: float) -> int:
    """Delete the secrets whose recovery window has ended; return how many."""
    gone = 0
    async for kv, record in access.scan(keeper.store, SecretRecord, secret_records.SECRETS):
        if record.deleted_at and record.deleted_at <= now:
            gone += (await keeper.store.txn([unchanged(kv)], [Delete(kv.key)])).succeeded
    return gone


async def _version(
    keeper: SecretKeeper, name: str, version_id: str, value: str, *, is_binary: bool, now: float
) -> SecretVersionRecord:
    version_id = version_id or str(uuid.uuid4())
    sealed = await keeper.seal(value, (SECRET, name, version_id))
    return SecretVersionRecord(id=version_id, value=sealed, is_binary=is_binary, created_at=now)


def staged(
    versions: Sequence[SecretVersionRecord], new: SecretVersionRecord, stages: Sequence[str]
) -> list[SecretVersionRecord]:
    """Return the versions after stages have gone to one of them. Pure."""
    was_current = next((v.id for v in versions if CURRENT in v.stages and v.id != new.id), "")
    moves = dict.fromkeys(stages, new.id)
    if CURRENT in moves and was_current:
        moves[PREVIOUS] = was_current
    if all(version.id != new.id for version in versions):
        versions = [*versions, new]
    staged = [
        replace(
            version,
            stages=[
                *(stage for stage in version.stages if stage not in moves),
                *(stage for stage, owner in moves.items() if owner == version.id),
            ],
        )
        for version in versions
    ]
    if sum(len(version.stages) for version in staged) > STAGES_MOST:
        raise TooManyStages(f"A secret can have at most {STAGES_MOST} staging labels.")
    return [version for version in staged if version.stages]


def _moved(
    versions: Sequence[SecretVersionRecord], stage: str, to: str, from_: str
) -> list[SecretVersionRecord]:
    """Return the versions after ``move_stage``. Pure."""
    by_id = {version.id: version for version in versions}
    for one in (to, from_):
        if one and one not in by_id:
            raise SecretMissing(
                f"Secrets Manager can't find the specified secret value for VersionId: {one}"
            )
    owner = next((version.id for version in versions if stage in version.stages), "")
    if owner not in (from_, to) or (from_ and owner != from_):
        has_it = f"is attached to version {owner}" if owner else "is not attached to a version"
        raise StageMisplaced(
            f"The staging label {stage} {has_it}; give that in RemoveFromVersionId."
        )
    if to:
        return staged(versions, by_id[to], [stage])
    if stage == CURRENT:
        raise StageMisplaced(
            f"You can only move staging label {CURRENT} to a different secret version. It can't be "
            "completely removed."
        )
    left = [
        replace(version, stages=[one for one in version.stages if one != stage])
        for version in versions
    ]
    return [version for version in left if version.stages]


def _same(
    keeper: SecretKeeper, record: SecretRecord, version_id: str, value: str | None
) -> SecretRecord:
    """Return a secret that was created by the same call before."""
    alive(record)
    known = next((v for v in record.versions if version_id and v.id == version_id), None)
    if known is None or value_of(keeper, record, known) != value:
        raise SecretExists(f"The operation failed because the secret {record.name} already exists.")
    return record


def alive(record: SecretRecord) -> SecretRecord:
    """Return a secret; raises ``SecretDeleted`` for one that is marked for deletion. Pure."""
    if record.deleted_at:
        raise SecretDeleted(
            "You can't perform this operation on the secret because it was marked for deletion."
        )
    return record


def _asked(version_id: str, stage: str) -> str:
    asked = [f"VersionId: {version_id}"] if version_id else []
    return ", ".join([*asked, *([f"staging label: {stage}"] if stage else [])])


async def change(
    keeper: SecretKeeper, given: str, decide: Callable[[SecretRecord], SecretRecord]
) -> SecretRecord:
    """Change a secret and return it; ``decide`` is pure, and may raise to refuse. Raises ``SecretMissing``."""
    found = await _find(keeper, given)
    changed = await access.change(keeper.store, SecretRecord, found.kv.key, decide)
    if changed is None:
        raise _no_secret()
    return changed


async def _find(keeper: SecretKeeper, given: str) -> Found[SecretRecord]:
    """Return a secret by its name, its ARN, or its ARN without the characters at its end."""
    for name in _names(given):
        found = await access.find(keeper.store, SecretRecord, secret_records.secret_key(name))
        if found is not None and _is_meant(found.record, given):
            return found
    raise _no_secret()


def _names(given: str) -> list[str]:
    if not given.startswith("arn:"):
        return [given]
    name = given.rpartition(":secret:")[2]
    return [name[: -_SUFFIX_LENGTH - 1], name]


def _is_meant(record: SecretRecord, given: str) -> bool:
    if not given.startswith("arn:"):
        return True
    return given in (record.arn, record.arn[: -_SUFFIX_LENGTH - 1])


def _no_secret() -> SecretMissing:
    return SecretMissing("Secrets Manager can't find the specified secret.")
