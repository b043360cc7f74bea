"""Keys and values together, also when a change of keys is cut short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.names import Names
from agent.controlplane.secrets import key_file, parameters, secret_records, stored
from agent.controlplane.secrets.keeper import SecretKeeper
from agent.controlplane.secrets.key_file import SecretKey, load, new_key, save
from agent.controlplane.secrets.sealing import KeyMissing, SecretsFailure
from agent.controlplane.store.contract import Put
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.controlplane.store.sqlite import SqliteStore

NAMES = Names()


async def fill(keeper: SecretKeeper) -> None:
    for number in range(3):
        await parameters.put(
            keeper, f"p{number}", f"canary-{number}", kind="SecureString", overwrite=False, now=1.0
        )
    await stored.create(keeper, NAMES, "s", value="canary-s1", now=1.0)
    await stored.put_value(keeper, "s", "canary-s2", now=2.0)


async def values(keeper: SecretKeeper) -> list[str]:
    found = [parameters.value_of(keeper, record) async for record in parameters.every(keeper)]
    async for secret in stored.every(keeper):
        found += [stored.value_of(keeper, secret, version) for version in secret.versions]
    return found


async def keys_of(keeper: SecretKeeper) -> tuple[SecretKey, ...]:
    return await asyncio.to_thread(load, keeper.file)


ALL = ["canary-0", "canary-1", "canary-2", "canary-s1", "canary-s2"]


async def keys_in_use(store: SqliteStore) -> set[str]:
    found = set()
    for kv in (await store.range(secret_records.PARAMETERS)).items:
        found.add(records.decode(secret_records.ParameterRecord, kv).value.key)
    for kv in (await store.range(secret_records.SECRETS)).items:
        versions = records.decode(secret_records.SecretRecord, kv).versions
        found |= {version.value.key for version in versions}
    return found


async def test_the_file_is_created_with_the_first_value(
    keeper: SecretKeeper, store: SqliteStore
) -> None:
    assert not keeper.file.exists()
    await fill(keeper)
    (key,) = await keys_of(keeper)
    assert await keys_in_use(store) == {key.id}
    assert await values(await SecretKeeper.open(store, keeper.file)) == ALL
    assert b"canary" not in store.path.read_bytes()
    assert "canary" not in repr(keeper)


async def test_a_change_of_keys_encrypts_everything_anew(
    keeper: SecretKeeper, store: SqliteStore
) -> None:
    await fill(keeper)
    (old,) = await keys_of(keeper)
    done = await keeper.rotate(forget_old=False)
    assert (done.sealed, done.left, done.keys) == (4, 0, 2)
    assert [key.id for key in await keys_of(keeper)] == [done.key_id, old.id]
    assert await keys_in_use(store) == {done.key_id}
    assert await values(keeper) == ALL
    again = await keeper.rotate(forget_old=True)
    assert [key.id for key in await keys_of(keeper)] == [again.key_id]
    assert await values(await SecretKeeper.open(store, keeper.file)) == ALL


async def test_a_change_that_was_cut_short_is_ended_by_the_next_process(
    keeper: SecretKeeper, store: SqliteStore
) -> None:
    await fill(keeper)
    (old,) = await keys_of(keeper)
    # As after a crash behind the write of the file, and the change of one value.
    newest = new_key()
    await asyncio.to_thread(save, keeper.file, [newest, old])
    restarted = await SecretKeeper.open(store, keeper.file)
    await parameters.put(restarted, "p1", "canary-new", overwrite=True, now=2.0)
    assert await keys_in_use(store) == {old.id, newest.id}
    assert await restarted.reseal() == (3, 0)
    assert await keys_in_use(store) == {newest.id}
    assert sorted(await values(restarted)) == sorted({*ALL, "canary-new"} - {"canary-1"})
    assert await restarted.reseal() == (0, 0)


async def test_a_file_that_cannot_be_written_changes_nothing(
    keeper: SecretKeeper, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(keeper)
    before = await keys_of(keeper)

    def fails(*_given: object) -> None:
        raise ConfigError("secret keys: No space left on device")

    monkeypatch.setattr(key_file, "save", fails)
    with pytest.raises(SecretsFailure, match="No space left"):
        await keeper.rotate(forget_old=True)
    assert await keys_of(keeper) == before
    assert await keys_in_use(store) == {before[0].id}
    assert await values(keeper) == ALL


async def test_old_keys_stay_while_something_needs_them(
    keeper: SecretKeeper, store: SqliteStore
) -> None:
    await fill(keeper)
    record = await parameters.find(keeper, "p1")
    assert record is not None
    key = secret_records.parameter_key("p1")
    await store.txn([], [Put(key, records.encode(replace(record, version=7)))])
    with structlog.testing.capture_logs() as logs:
        done = await keeper.rotate(forget_old=True)
    assert (done.sealed, done.left, done.keys) == (3, 1, 2)
    assert [log["key"] for log in logs if "keeps its old key" in log["event"]] == [key]


async def test_values_that_are_stored_meanwhile_have_the_new_key(
    keeper: SecretKeeper, store: SqliteStore
) -> None:
    await fill(keeper)

    async def put_many() -> None:
        for number in range(20):
            await parameters.put(
                keeper, "p0", f"canary-{number}", overwrite=True, now=float(number)
            )

    async with asyncio.TaskGroup() as group:
        group.create_task(put_many())
        group.create_task(keeper.rotate(forget_old=True))
        group.create_task(put_many())
    (key,) = await keys_of(keeper)
    assert await keys_in_use(store) == {key.id}
    record = await parameters.find(keeper, "p0")
    assert record is not None
    assert record.version == 41
    assert parameters.value_of(keeper, record).startswith("canary-")


async def test_a_lost_file_is_not_replaced_by_a_new_one(
    keeper: SecretKeeper, store: SqliteStore
) -> None:
    await fill(keeper)
    kept = keeper.file.read_bytes()
    keeper.file.unlink()
    without = await SecretKeeper.open(store, keeper.file)
    with pytest.raises(SecretsFailure, match="is gone, and there are secrets that need it"):
        await parameters.put(without, "new", "x", kind="String", overwrite=False, now=1.0)
    record = await parameters.find(without, "p0")
    assert record is not None
    with pytest.raises(KeyMissing, match="put that file back from a copy"):
        parameters.value_of(without, record)
    keeper.file.write_bytes(kept)
    keeper.file.chmod(0o600)
    await without.reload()
    assert await values(without) == ALL


async def test_a_secret_that_waits_for_its_first_value_needs_no_key(
    keeper: SecretKeeper, store: SqliteStore
) -> None:
    """Terraform creates a secret and gives it a value in two calls, beside calls for others."""
    await stored.create(keeper, NAMES, "s", value=None, now=1.0)
    assert not keeper.file.exists()
    await stored.put_value(keeper, "s", "canary", now=2.0)
    await stored.create(keeper, NAMES, "empty", value=None, now=3.0)
    assert await values(await SecretKeeper.open(store, keeper.file)) == ["canary"]


async def test_a_secret_that_cannot_be_read_may_need_the_key(
    keeper: SecretKeeper, store: SqliteStore
) -> None:
    await store.txn([], [Put(secret_records.secret_key("s"), b"not a record")])
    with pytest.raises(SecretsFailure, match="is gone"):
        await parameters.put(keeper, "new", "x", kind="String", overwrite=False, now=1.0)


async def test_a_bad_file_is_not_taken_at_a_reload(keeper: SecretKeeper) -> None:
    await fill(keeper)
    keeper.file.write_text("nonsense\n")
    with structlog.testing.capture_logs() as logs:
        await keeper.reload()
    assert "old ones stay in use" in logs[0]["event"]
    assert str(keeper.file) in logs[0]["error"]
    assert await values(keeper) == ALL
