"""Credentials of roles as the agent's side of the long poll takes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.errors import StateFailure
from agent.model.payload import Credentials
from agent.model.wire import Assignment, Assignments, TaskCredentials
from agent.upstream.longpoll import answers
from agent.upstream.longpoll.credentials import issued
from tests.support.control_host import until

if TYPE_CHECKING:
    from tests.support.control_host import Host
    from tests.support.fake_control import FakeControl


def credentials(name: str, key: str = "ASIA1") -> Credentials:
    return Credentials(credentials_id=name, access_key_id=key, secret_access_key="canary")


def order(desired: str = "RUNNING", **payload: Any) -> Assignment:
    raw = json.dumps({"arn": "t1", "containers": [{"name": "a", "image": "b"}]} | payload).encode()
    return Assignment(task_arn="t1", desired_status=desired, payload=msgspec.Raw(raw))


BOTH: dict[str, Any] = {
    "roleCredentials": {"credentialsId": "a", "accessKeyId": "ASIA1"},
    "executionRoleCredentials": {"credentialsId": "e", "accessKeyId": "ASIA2"},
}


def found(*orders: Assignment, more: tuple[TaskCredentials, ...] = ()) -> list[tuple[str, str]]:
    answer = Assignments(revision=1, tasks=list(orders), credentials=list(more))
    return [(one.role_type, one.credentials.credentials_id) for one in issued(answer)]


def test_those_of_payloads_and_those_that_were_renewed() -> None:
    renewed = TaskCredentials(
        task_arn="t1", role_type="TaskExecution", credentials=credentials("e", "ASIA3")
    )
    assert found(order(**BOTH), more=(renewed,)) == [
        ("TaskApplication", "a"),
        ("TaskExecution", "e"),
        ("TaskExecution", "e"),
    ]


@pytest.mark.parametrize(
    "broken",
    [
        order(),
        order("STOPPED", **BOTH),
        order(roleCredentials={"credentialsId": "a", "roleArn": "still to come"}),
        order(roleCredentials="no object"),
        order(roleCredentials={"accessKeyId": 1}),
        Assignment(task_arn="t1", desired_status="RUNNING", payload=msgspec.Raw(b"[]")),
    ],
    ids=["none", "to stop", "still to come", "text", "number", "list"],
)
def test_what_is_of_no_use_is_left_out(broken: Assignment) -> None:
    assert found(broken) == []


def test_broken_ones_harm_no_others() -> None:
    raw = json.dumps(
        {
            "revision": 1,
            "credentialsSerial": 7,
            "credentials": [
                {"taskArn": "t1", "roleType": "TaskExecution", "credentials": {"accessKeyId": 1}},
                {"roleType": "TaskExecution"},
                {
                    "taskArn": "t2",
                    "roleType": "TaskExecution",
                    "credentials": {"accessKeyId": "ASIA1", "secretAccessKey": "canary"},
                },
            ],
        }
    ).encode()
    read, troubles = answers.assignments(raw)
    assert [one.task_arn for one in read.credentials] == ["t2"]
    assert read.credentials_serial == 7
    assert len(troubles) == 2
    assert "canary" not in repr(read)
    assert "canary" not in str(troubles)


class TestTheClient:
    async def test_keeps_what_comes_with_a_task_and_what_is_renewed(
        self, host: Host, control: FakeControl
    ) -> None:
        control.want("t1", payload=bytes(order(**BOTH).payload))
        async with host.running():
            await until(lambda: host.credentials.get("e"))
            assert host.credentials.role_type("a") == "TaskApplication"
            control.issue("t1", "TaskExecution", credentials("e", "ASIA9"))
            await until(lambda: _key(host, "e") == "ASIA9")
            assert _key(host, "a") == "ASIA1"
            await until(lambda: control.serials[-1:] == [1])
        assert control.serials[0] == 0

    async def test_is_woken_for_them(self, host: Host, control: FakeControl) -> None:
        host.wait_s = 20.0
        control.want("t1", payload=bytes(order().payload))
        async with host.running():
            await until(lambda: len(control.polls) > 1)
            control.issue("t1", "TaskExecution", credentials("e"))
            await until(lambda: host.credentials.get("e"), limit_s=5.0)

    async def test_asks_for_all_of_them_when_it_asks_for_everything(
        self, host: Host, control: FakeControl
    ) -> None:
        control.issue("t1", "TaskExecution", credentials("e"))
        for _ in range(2):  # a new process has nothing
            async with host.running():
                await until(lambda: control.serials[-1:] == [1])
            assert control.serials[0] == 0
            assert host.credentials.get("e")
            host.credentials.forget("t1")
            control.serials.clear()

    async def test_asks_again_for_what_came_with_orders_that_were_not_taken(
        self, host: Host, control: FakeControl
    ) -> None:
        failures = [StateFailure("disk full")]
        take = host.take

        async def fails_once(*given: Any, **more: Any) -> None:
            if failures:
                raise failures.pop()
            await take(*given, **more)

        host.take = fails_once
        control.issue("t1", "TaskExecution", credentials("e"))
        control.want("t1", payload=bytes(order().payload))
        async with host.running():
            await until(lambda: control.serials[-1:] == [1])
        assert control.serials[:2] == [0, 0]


def _key(host: Host, name: str) -> str:
    kept = host.credentials.get(name)
    return "" if kept is None else kept.access_key_id
