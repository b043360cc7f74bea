"""Keys of tasks: the same in every process, and nobody else's."""

from __future__ import annotations

import pytest

from agent.awslogs.grants import Grant, LogGrants, RelayAddress
from agent.errors import PayloadError

TASK = "0123456789abcdef0123456789abcdef"
GRANTS = LogGrants(b"secret")


@pytest.mark.parametrize("create_group", [True, False])
def test_an_id_leads_to_keys_which_lead_to_the_grant(create_group: bool) -> None:
    grant = Grant(TASK, create_group)
    keys = GRANTS.keys(GRANTS.credentials_id(grant))
    assert keys is not None
    assert GRANTS.grant(keys.access_key) == (grant, keys)


def test_another_process_of_the_same_host_makes_the_same_keys() -> None:
    id_ = GRANTS.credentials_id(Grant(TASK, create_group=False))
    again = LogGrants(b"secret")
    assert again.credentials_id(Grant(TASK, create_group=False)) == id_
    assert again.keys(id_) == GRANTS.keys(id_)


def test_ids_of_another_host_or_task_or_kind_are_worth_nothing() -> None:
    id_ = GRANTS.credentials_id(Grant(TASK, create_group=False))
    assert LogGrants(b"another").keys(id_) is None
    assert GRANTS.keys(id_.replace(TASK, "f" * 32)) is None
    assert GRANTS.keys(id_.replace(".any.", ".create.")) is None
    assert GRANTS.keys("") is None
    assert GRANTS.grant("AKIAIOSFODNN7EXAMPLE") is None


def test_two_tasks_have_different_keys() -> None:
    made = {
        GRANTS.keys(GRANTS.credentials_id(Grant(task, create)))
        for task in ("a", "b")
        for create in (True, False)
    }
    assert len({keys.secret_key for keys in made if keys}) == 4


def test_secrets_are_not_shown() -> None:
    keys = GRANTS.keys(GRANTS.credentials_id(Grant(TASK, create_group=False)))
    assert keys is not None
    assert keys.secret_key not in f"{keys!r} {keys}"
    assert "secret" not in repr(GRANTS)


def test_a_task_whose_id_is_none_is_refused_in_words() -> None:
    address = RelayAddress(GRANTS, 51681)
    assert address.endpoint == "http://127.0.0.1:51681"
    with pytest.raises(PayloadError, match="is not an id of a task"):
        address.credentials_id("arn:aws:ecs:us-east-1:1:task/x y", create_group=False)
