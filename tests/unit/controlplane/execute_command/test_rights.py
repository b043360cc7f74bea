"""Who may begin a session, what the audit trail says of it, and how it ends with the right to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore import xform_name

from agent.controlplane.execute_command import sessions
from tests.support.control_endpoint import Endpoint
from tests.support.keyed_control import TRUSTS_ACCOUNT, KeyedControl, allow, ecs_arn
from tests.support.session_plugin import PluginClient
from tests.unit.controlplane.execute_command.conftest import Stage
from tests.unit.controlplane.execute_command.test_sessions_on_control import closed_at_once, wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.keyed_control import Keys

MAY = allow("ecs:ExecuteCommand")


class _Signed(Endpoint):
    """The same endpoint, called with the first key."""

    def __init__(self, keyed: KeyedControl) -> None:
        super().__init__(keyed.endpoint.url, keyed.endpoint.session)
        self._keyed = keyed

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        return await self._keyed.call("ecs", xform_name(operation), **request)


class Room(Stage):
    """A stage on which callers need keys."""

    def __init__(self, keyed: KeyedControl) -> None:
        super().__init__(_Signed(keyed))
        self.keyed = keyed

    async def opening(self, keys: Keys | None = None, **changes: Any) -> dict[str, str]:
        """Call ExecuteCommand with some keys."""
        asked = {"task": self.task, "command": "/bin/sh", "interactive": True}
        answer = await self.keyed.call("ecs", "execute_command", keys, **(asked | changes))
        session: dict[str, str] = answer["session"]
        return session

    async def at_work(self, keys: Keys | None = None) -> PluginClient:
        """Open a session with some keys, and wait for its first output."""
        client = await PluginClient.open(self.control.session, await self.opening(keys))
        await client.type("x")
        await client.until(b"x")
        return client


@pytest.fixture
def reload() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
async def room(tmp_path: Path, reload: asyncio.Event) -> AsyncIterator[Room]:
    async with KeyedControl.running(tmp_path, reload=reload) as keyed:
        made = Room(keyed)
        await made.begin()
        obeying = asyncio.create_task(made.obey())
        yield made
        obeying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await obeying


@pytest.mark.parametrize("how", ["deleted", "inactive", "policy", "no more than others"])
async def test_a_session_of_a_user_ends_with_the_right_to_it(room: Room, how: str) -> None:
    keyed = room.keyed
    keys = await keyed.user("ann", MAY)
    begun = await room.opening(keys)
    async with await room.at_work(keys) as client:
        # What does not touch the right does not touch the session.
        await keyed.user("bob", MAY)
        await keyed.allow("ann", MAY, allow("ecs:ListTasks"))
        await client.type("still")
        await client.until(b"still")
        about = {"UserName": "ann"}
        if how == "deleted":
            await keyed.call("iam", "delete_access_key", **about, AccessKeyId=keys.id)
        elif how == "inactive":
            key = {"AccessKeyId": keys.id, "Status": "Inactive"}
            await keyed.call("iam", "update_access_key", **about, **key)
        elif how == "policy":
            await keyed.call("iam", "delete_user_policy", **about, PolicyName="test")
        else:
            other = {"StringEquals": {"ecs:container-name": "other"}}
            await keyed.allow("ann", MAY | {"Condition": other})
        assert await client.end() == sessions.REVOKED
    await wait(room.command.closed)
    # A token that was not used yet is worth nothing any more.
    token = {"TokenValue": begun["tokenValue"]}
    assert await closed_at_once(room, begun["streamUrl"], token) == 1008


async def test_a_session_of_a_role_ends_with_the_right_of_the_role(room: Room) -> None:
    role = await room.keyed.role("shell", TRUSTS_ACCOUNT, MAY)
    async with await room.at_work(await room.keyed.session(role)) as client:
        await room.keyed.call("iam", "delete_role_policy", RoleName="shell", PolicyName="test")
        assert await client.end() == sessions.REVOKED


async def test_a_session_of_a_key_of_the_file_ends_with_the_key(
    room: Room, reload: asyncio.Event, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    first = file.read_text()
    async with await room.at_work() as client:
        file.write_text(first + first.replace("default", "other").replace(room.keyed.root.id, _KEY))
        reload.set()
        await client.type("more")
        await client.until(b"more")
        file.write_text(first.replace(room.keyed.root.id, _KEY))
        reload.set()
        assert await client.end() == sessions.REVOKED


_KEY = "ECSKTESTTESTTESTTEST"


async def test_policies_say_who_may_and_in_which_container(room: Room) -> None:
    code, text = await _refused(room, await room.keyed.user("eve", allow("ecs:Describe*")))
    assert code == "AccessDeniedException"
    assert "is not authorized to perform: ecs:ExecuteCommand on resource" in text
    of_main = {"StringEquals": {"ecs:container-name": "main"}}
    keys = await room.keyed.user("ann", MAY | {"Condition": of_main})
    assert (await room.opening(keys, container="main"))["tokenValue"]
    assert (await _refused(room, keys, container="other"))[0] == "AccessDeniedException"
    elsewhere = allow("ecs:ExecuteCommand", ecs_arn("*mail/*"))
    keys = await room.keyed.user("bob", elsewhere)
    assert (await _refused(room, keys))[0] == "AccessDeniedException"


async def _refused(room: Room, keys: Keys, **changes: Any) -> tuple[str, str]:
    asked = {"task": room.task, "command": "/bin/sh", "interactive": True}
    return await room.keyed.refused("ecs", "execute_command", keys, **(asked | changes))


async def test_the_audit_trail_has_who_and_what_but_no_token(room: Room, tmp_path: Path) -> None:
    keys = await room.keyed.user("ann", MAY)
    begun = await room.opening(keys, command="/bin/ls -l")
    file = tmp_path / "audit" / "audit.jsonl"
    async with asyncio.timeout(30):
        while "ExecuteCommand" not in file.read_text():  # noqa: ASYNC110 - of a file
            await asyncio.sleep(0.05)
    text = file.read_text()
    (record,) = (
        one for one in map(json.loads, text.splitlines()) if one["eventName"] == "ExecuteCommand"
    )
    assert record["userIdentity"]["userName"] == "ann"
    assert record["requestParameters"] == {
        "command": "/bin/ls -l",
        "interactive": True,
        "task": room.task,
    }
    told = record["responseElements"]
    assert told["session"]["sessionId"] == begun["sessionId"]
    assert told["session"]["tokenValue"] == "HIDDEN_DUE_TO_SECURITY_REASONS"
    assert begun["tokenValue"] not in text


async def test_tokens_that_nobody_uses_are_bounded_for_each_caller(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "BEGUN_MOST", 2)
    keys = await room.keyed.user("ann", MAY)
    other = await room.opening()
    begun = [await room.opening(keys) for _ in range(3)]
    for one, opens in ((begun[0], False), (begun[1], True), (begun[2], True), (other, True)):
        token = {"TokenValue": one["tokenValue"]}
        socket = await room.control.session.ws_connect(one["streamUrl"])
        await socket.send_str(json.dumps(token))
        async with asyncio.timeout(60):
            message = await socket.receive()
        assert (socket.close_code != 1008) == opens, message
        await socket.close()
