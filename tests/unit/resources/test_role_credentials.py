from __future__ import annotations

import asyncio

import pytest

from agent.model.payload import Credentials
from agent.resources.role_credentials import RoleCredentials


def credentials(credentials_id: str, key: str = "canary") -> Credentials:
    return Credentials(credentials_id=credentials_id, secret_access_key=key)


@pytest.fixture
def kept() -> RoleCredentials:
    return RoleCredentials()


def test_the_newest_are_given_by_id(kept: RoleCredentials) -> None:
    kept.keep("task", "TaskApplication", credentials("a", "old"))
    kept.keep("task", "TaskApplication", credentials("a", "new"))
    found = kept.get("a")
    assert found is not None
    assert found.secret_access_key == "new"  # noqa: S105
    assert kept.get("b") is None
    assert (kept.role_type("a"), kept.role_type("b")) == ("TaskApplication", "")
    assert len(kept) == 1


def test_a_container_may_ask_by_an_id_that_was_replaced(kept: RoleCredentials) -> None:
    kept.keep("task", "TaskApplication", credentials("a"))
    kept.keep("task", "TaskApplication", credentials("b"))
    assert kept.get("a") is not None


def test_a_task_is_forgotten_by_role_or_whole(kept: RoleCredentials) -> None:
    kept.keep("one", "TaskApplication", credentials("a"))
    kept.keep("one", "TaskExecution", credentials("b"))
    kept.keep("two", "TaskApplication", credentials("c"))
    kept.forget("one", "TaskApplication")
    assert [kept.get(name) is not None for name in "abc"] == [False, True, True]
    kept.forget("one")
    kept.forget("one")
    assert [kept.get(name) is not None for name in "abc"] == [False, False, True]


def test_nothing_is_kept_without_an_id(kept: RoleCredentials) -> None:
    kept.keep("task", "TaskApplication", credentials(""))
    assert len(kept) == 0


def test_there_is_a_limit_and_the_longest_unrenewed_go_first() -> None:
    kept = RoleCredentials(limit=3)
    for name in "abc":
        kept.keep(name, "TaskApplication", credentials(name))
    kept.keep("a", "TaskApplication", credentials("a"))
    kept.keep("d", "TaskApplication", credentials("d"))
    assert [kept.get(name) is not None for name in "abcd"] == [True, False, True, True]


def test_nothing_of_it_is_shown(kept: RoleCredentials) -> None:
    kept.keep("task", "TaskApplication", credentials("a"))
    assert "canary" not in repr(kept)
    assert "canary" not in repr(vars(kept))


async def test_who_waits_gets_the_first_that_come_for_its_role(kept: RoleCredentials) -> None:
    waiting = [asyncio.create_task(kept.wait("task", "TaskExecution")) for _ in range(2)]
    await asyncio.sleep(0)
    kept.keep("other", "TaskExecution", credentials("o"))
    kept.keep("task", "TaskApplication", credentials("a"))
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    kept.keep("task", "TaskExecution", credentials("e", "first"))
    found = await asyncio.gather(*waiting)
    assert [one.secret_access_key for one in found] == ["first", "first"]
    assert (await kept.wait("task", "TaskExecution")) is found[0]


async def test_newer_ones_can_be_waited_for(kept: RoleCredentials) -> None:
    kept.keep("task", "TaskExecution", credentials("e", "old"))
    old = await kept.wait("task", "TaskExecution")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await kept.wait("task", "TaskExecution", other_than=old)
    assert not kept._waiting
    newer = asyncio.create_task(kept.wait("task", "TaskExecution", other_than=old))
    await asyncio.sleep(0)
    kept.keep("task", "TaskExecution", credentials("e", "old"))  # the same again
    await asyncio.sleep(0)
    assert not newer.done()
    kept.keep("task", "TaskExecution", credentials("f", "new"))
    assert (await newer).secret_access_key == "new"  # noqa: S105
    assert not kept._waiting


async def test_a_forgotten_role_is_waited_for_again(kept: RoleCredentials) -> None:
    kept.keep("task", "TaskExecution", credentials("e"))
    kept.forget("task")
    waiting = asyncio.create_task(kept.wait("task", "TaskExecution"))
    await asyncio.sleep(0)
    assert not waiting.done()
    kept.keep("task", "TaskExecution", credentials("e"))
    assert (await waiting).credentials_id == "e"


def test_a_stopped_task_keeps_its_execution_role_until_it_is_forgotten() -> None:
    kept = RoleCredentials(limit=3)
    kept.keep("running", "TaskExecution", credentials("r"))
    kept.keep("stopped", "TaskApplication", credentials("a"))
    kept.keep("stopped", "TaskExecution", credentials("e"))
    kept.stopped("stopped")
    assert [kept.get(name) is not None for name in "rae"] == [True, False, True]
    for name in "xy":
        kept.keep(name, "TaskExecution", credentials(name))
    # Beyond the limit it is the first to go, although it is not the oldest.
    assert [kept.get(name) is not None for name in "rexy"] == [True, False, True, True]


def test_ids_are_known_before_their_credentials_come(kept: RoleCredentials) -> None:
    kept.expect("task", "a")
    kept.expect("task", "b")
    kept.expect("task", "")
    assert [kept.is_expected(name) for name in ("a", "b", "c", "")] == [True, True, False, False]
    assert kept.get("a") is None
    kept.keep("task", "TaskApplication", credentials("a"))
    kept.expect("task", "a")
    assert [kept.is_expected(name) for name in "ab"] == [False, True]
    kept.forget("task")
    assert not kept.is_expected("b")
