"""Which calls that go on are ended when keys or policies change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.authorization import policy
from agent.controlplane.authorization.actions.table import SERVICES
from agent.controlplane.authorization.caller import ROOT, USER, Caller
from agent.controlplane.authorization.grants import Grants
from agent.controlplane.authorization.open_calls import AllowedCall, Need, OpenCalls

if TYPE_CHECKING:
    from collections.abc import Callable

ANN, BOB = (Caller(USER, name, key_id=f"key of {name}") for name in ("ann", "bob"))


def grants(*actions: str, **more: Any) -> Grants:
    statements = [{"Effect": "Allow", "Action": list(actions), "Resource": "*", **more}]
    text = json.dumps({"Version": "2012-10-17", "Statement": statements if actions else []})
    return Grants(policy.compile_permissions(text, SERVICES) if actions else ())


class Users:
    """Implements ``Rights``."""

    def __init__(self) -> None:
        self.now: dict[str, Grants | None] = {}
        self.changed: Callable[[str], None] = lambda _: None

    def tell(self, changed: Callable[[str], None]) -> None:
        self.changed = changed

    def place(self, caller: Caller) -> str:
        return f"/users/{caller.name}"

    def grants_of(self, caller: Caller, grants: Grants) -> Grants | None:
        return self.now.get(caller.name, grants)


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
def calls(users: Users) -> OpenCalls:
    made = OpenCalls()
    made.follow(users)
    return made


def call(caller: Caller, **need: Any) -> AllowedCall:
    needs = (Need("ecs:ExecuteCommand", "arn:x", **need),)
    return AllowedCall(caller, grants("ecs:*"), needs)


def test_only_calls_of_who_changed_are_looked_at_and_each_ends_once(
    users: Users, calls: OpenCalls
) -> None:
    ended: list[str] = []
    for caller in (ANN, BOB, ANN):
        calls.hold(call(caller), lambda name=caller.name: ended.append(name))  # type: ignore[misc]
    users.now = {"ann": None, "bob": None}
    users.changed("/users/ann")
    users.changed("/users/ann")
    assert ended == ["ann", "ann"]
    users.changed("/users/bob")
    assert ended == ["ann", "ann", "bob"]
    assert calls._held == {}


@pytest.mark.parametrize(
    ("now", "goes_on"),
    [
        (grants("ecs:ExecuteCommand"), True),
        (grants("ecs:Describe*"), False),
        (grants(), False),
        (None, False),
        # It was never asked who else this depends on.
        (grants("ecs:*", Condition={"StringEquals": {"aws:username": "ann"}}), False),
        (grants("ecs:*", Condition={"StringEquals": {"ecs:container-name": "web"}}), True),
        (grants("ecs:*", Condition={"StringEquals": {"ecs:container-name": "db"}}), False),
    ],
)
def test_what_a_call_needed_is_decided_again(
    users: Users, calls: OpenCalls, now: Grants | None, goes_on: bool
) -> None:
    ended: list[str] = []
    key = "ecs:container-name"
    made = call(ANN, values={key: ("web",)}, keys=frozenset({key}))
    release = calls.hold(made, lambda: ended.append("ann"))
    users.now["ann"] = now
    users.changed("/users/ann")
    assert ended == ([] if goes_on else ["ann"])
    release()
    release()
    assert calls._held == {}


def test_a_right_that_was_lost_meanwhile_ends_the_call_at_once(
    users: Users, calls: OpenCalls
) -> None:
    ended: list[str] = []
    users.now["ann"] = None
    calls.hold(call(ANN), lambda: ended.append("ann"))
    assert ended == ["ann"]


def test_a_call_that_was_released_is_not_ended(users: Users, calls: OpenCalls) -> None:
    ended: list[str] = []
    calls.hold(call(ANN), lambda: ended.append("ann"))()
    users.now["ann"] = None
    users.changed("/users/ann")
    assert ended == []


def test_calls_of_the_owner_end_with_a_key_of_the_file(calls: OpenCalls) -> None:
    ended: list[str] = []
    for key in ("K1", "K2", ""):
        calls.hold(AllowedCall(Caller(ROOT, "x", key_id=key)), lambda key=key: ended.append(key))  # type: ignore[misc]
    calls.take_root_keys({"K1", "K2"})
    assert ended == []
    calls.take_root_keys({"K2"})
    assert ended == ["K1"]
