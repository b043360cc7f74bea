"""Users and roles in memory, followed from a store that other processes change too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.controlplane import records
from agent.controlplane.authorization.grants import Decision
from agent.controlplane.iam import role_records, stored, user_records, users
from agent.controlplane.iam.directory import Directory, KeyUnknown, SessionExpired
from agent.controlplane.iam.role_records import IamRoleRecord
from agent.controlplane.iam.user_records import IamUserRecord, sealed_kinds
from agent.controlplane.names import Names
from agent.controlplane.secrets.keeper import SecretKeeper
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.control_host import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LISTS = json.dumps({"Statement": {"Effect": "Allow", "Action": "ecs:List*", "Resource": "*"}})
NOW = 1_000_000.0


class Room:
    """One store, and a keeper and a directory for each process that has it."""

    def __init__(self, store: SqliteStore, file: Path) -> None:
        self.store = store
        self.file = file

    async def process(self) -> tuple[SecretKeeper, Directory]:
        keeper = await SecretKeeper.open(self.store, self.file, sealed_kinds())
        return keeper, await Directory.open(self.store, keeper, Names())


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    store = await SqliteStore.open(tmp_path / "control.db")
    yield Room(store, tmp_path / "secrets.keys")
    await store.close()


@contextlib.asynccontextmanager
async def following(*directories: Directory) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in directories]
        yield
        for task in tasks:
            task.cancel()


async def user(room: Room, name: str = "ann") -> None:
    record = IamUserRecord(id=user_records.new_user_id(), name=name, inline={"p": LISTS})
    await users.create(room.store, record)


async def role(room: Room, name: str = "web") -> IamRoleRecord:
    record = IamRoleRecord(id=role_records.new_role_id(), name=name, inline={"p": LISTS})
    await stored.create(room.store, record)
    return record


def knows(directory: Directory, key_id: str) -> bool:
    try:
        directory.credential(key_id, "", NOW)
    except KeyUnknown:
        return False
    return True


async def test_another_process_admits_and_revokes_too(room: Room) -> None:
    keeper, one = await room.process()
    await user(room)
    key, secret = await users.add_key(keeper, "ann", NOW)
    other_keeper, other = await room.process()
    assert other.credential(key.id, "", NOW).secret == secret
    async with following(one, other):
        await until(lambda: knows(one, key.id))
        new, _ = await users.add_key(other_keeper, "ann", NOW)
        await until(lambda: knows(one, new.id) and knows(other, new.id))
        await users.set_active(room.store, "ann", key.id, is_active=False)
        await until(lambda: not knows(one, key.id) and not knows(other, key.id))
        await users.remove_key(room.store, "ann", new.id)
        await until(lambda: not knows(one, new.id) and not knows(other, new.id))


async def test_what_is_read_back_counts_before_the_watch_brings_it(room: Room) -> None:
    keeper, directory = await room.process()
    place = user_records.user_key("ann")
    await user(room)
    key, _ = await users.add_key(keeper, "ann", NOW)
    assert not knows(directory, key.id)
    await directory.refresh(place)
    assert knows(directory, key.id)
    await users.remove_key(room.store, "ann", key.id)
    await directory.refresh(place)
    assert not knows(directory, key.id)
    await users.change(room.store, "ann", lambda old: replace(old, inline={}))
    await users.delete(room.store, "ann")
    await directory.refresh(place)
    async with following(directory):  # older news must not bring it back
        await user(room, "bob")
        second, _ = await users.add_key(keeper, "bob", NOW)
        await until(lambda: knows(directory, second.id))
        assert not knows(directory, key.id)


async def test_policies_are_compiled_once_until_they_change(room: Room) -> None:
    keeper, directory = await room.process()
    await user(room)
    key, _ = await users.add_key(keeper, "ann", NOW)
    await directory.refresh(user_records.user_key("ann"))
    first = directory.credential(key.id, "", NOW)
    assert directory.credential(key.id, "", NOW) is first
    assert first.grants.decide("ecs:ListTasks", "*", {}) is Decision.ALLOWED
    await users.change(room.store, "ann", lambda old: replace(old, inline={}))
    await directory.refresh(user_records.user_key("ann"))
    second = directory.credential(key.id, "", NOW)
    assert second.grants.decide("ecs:ListTasks", "*", {}) is Decision.NOT_ALLOWED
    assert key.id in repr(second.caller)
    assert second.secret not in repr(second)


async def test_a_stored_policy_that_cannot_be_evaluated_forbids_all(room: Room) -> None:
    keeper, directory = await room.process()
    odd = json.dumps(
        {
            "Statement": {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"Bool": {"aws:ViaAWSService": "true"}},
            }
        }
    )
    await user(room)
    await users.change(room.store, "ann", lambda old: replace(old, inline={"p": LISTS, "odd": odd}))
    key, _ = await users.add_key(keeper, "ann", NOW)
    await directory.refresh(user_records.user_key("ann"))
    found = directory.credential(key.id, "", NOW).grants
    assert found.decide("ecs:ListTasks", "*", {}) is Decision.DENIED


async def test_sessions_are_accepted_by_every_process_until_they_end(room: Room) -> None:
    _, one = await room.process()
    record = await role(room)
    await one.refresh(role_records.role_key("web"))
    assert one.role("web") == one.role(record.arn(Names())) == record
    assert one.role("other") is None
    assert one.role(f"{record.arn(Names())}x") is None
    session, token = await one.begin(record, "s", now=NOW, duration_s=900)
    again, _ = await one.begin(record, "s", now=NOW, duration_s=900)
    assert again.key_id != session.key_id
    _, other = await room.process()
    for directory in (one, other):
        found = directory.credential(session.key_id, token, NOW + 899)
        assert found.secret == session.secret
        assert found.caller.arn == "arn:aws:sts::000000000000:assumed-role/web/s"
        assert found.caller.role_arn == record.arn(Names())
        with pytest.raises(SessionExpired):
            directory.credential(session.key_id, token, NOW + 900)
        for key_id, wrong in ((again.key_id, token), (session.key_id, ""), (session.key_id, "é")):
            with pytest.raises(KeyUnknown):
                directory.credential(key_id, wrong, NOW)
    await stored.change(room.store, "web", lambda old: replace(old, inline={}))
    await stored.delete(room.store, "web")
    await other.refresh(role_records.role_key("web"))
    with pytest.raises(KeyUnknown):
        other.credential(session.key_id, token, NOW)


async def test_a_change_of_the_secret_keys_ends_nothing(room: Room) -> None:
    keeper, directory = await room.process()
    await user(room)
    key, secret = await users.add_key(keeper, "ann", NOW)
    record = await role(room)
    session, token = await directory.begin(record, "s", now=NOW, duration_s=900)
    done = await keeper.rotate(forget_old=True)
    assert (done.sealed, done.left, done.keys) == (2, 0, 1)
    assert await keeper.reseal() == (0, 0)
    _, restarted = await room.process()
    assert restarted.credential(key.id, "", NOW).secret == secret
    assert restarted.credential(session.key_id, token, NOW).secret == session.secret


async def test_without_the_secret_keys_nobody_is_admitted_and_nothing_is_lost(room: Room) -> None:
    keeper, directory = await room.process()
    await user(room)
    key, secret = await users.add_key(keeper, "ann", NOW)
    record = await role(room)
    session, token = await directory.begin(record, "s", now=NOW, duration_s=900)
    kept = room.file.read_bytes()
    room.file.unlink()
    keeper, without = await room.process()
    for key_id, with_token in ((key.id, ""), (session.key_id, token)):
        with pytest.raises(KeyUnknown):
            without.credential(key_id, with_token, NOW)
    with pytest.raises(SecretsFailure, match="is gone"):
        await users.add_key(keeper, "ann", NOW)
    with pytest.raises(SecretsFailure):
        await without.begin(record, "s", now=NOW, duration_s=900)
    room.file.write_bytes(kept)
    room.file.chmod(0o600)
    await keeper.reload()
    await without.reopen()
    _, back = await room.process()
    for directory in (without, back):
        assert directory.credential(key.id, "", NOW).secret == secret
        assert directory.credential(session.key_id, token, NOW).secret == session.secret


async def test_a_record_that_cannot_be_read_is_nobody(room: Room) -> None:
    _, directory = await room.process()
    async with following(directory):
        await room.store.txn([], [Put(user_records.user_key("ann"), b"{")])
        await role(room)
        await until(lambda: directory.role("web") is not None)
    record = IamUserRecord(id="AIDA1", name="bob")
    assert records.encode(record)
    assert time.time() > NOW
