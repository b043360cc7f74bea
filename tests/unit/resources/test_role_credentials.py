from __future__ import annotations

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
