from __future__ import annotations

import asyncio

import pytest

from agent.aws import role_keys
from agent.aws.role_keys import RoleKeys
from agent.errors import CredentialsAwaited, CredentialsMissing
from agent.model.payload import Credentials, RoleType
from agent.resources.role_credentials import RoleCredentials


def credentials(name: str) -> Credentials:
    return Credentials(
        credentials_id="e", access_key_id=name, secret_access_key="canary", session_token="token"
    )


class Role:
    """A role whose credentials are where control's are kept."""

    def __init__(self) -> None:
        self.kept = RoleCredentials()
        self.keys = RoleKeys(
            lambda other: self.kept.wait("task", RoleType.EXECUTION, other_than=other)
        )

    def send(self, name: str) -> None:
        self.kept.keep("task", RoleType.EXECUTION, credentials(name))


async def test_the_newest_are_given_each_time() -> None:
    role = Role()
    waiting = asyncio.create_task(role.keys.keys())
    await asyncio.sleep(0)
    role.send("first")
    assert (await waiting).access_key == "first"
    role.send("second")
    keys = await role.keys.keys()
    assert (keys.access_key, keys.secret_key, keys.session_token) == ("second", "canary", "token")


async def test_refused_ones_are_replaced_as_soon_as_control_sends_others() -> None:
    role = Role()
    role.send("old")
    role.keys.refused(await role.keys.keys())
    waiting = asyncio.create_task(role.keys.keys())
    await asyncio.sleep(0.01)
    role.send("new")
    assert (await waiting).access_key == "new"
    assert (await role.keys.keys()).access_key == "new"


async def test_without_others_the_refused_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_keys, "NEWER_S", 0.01)
    role = Role()
    role.send("old")
    old = await role.keys.keys()
    role.keys.refused(old)
    assert await role.keys.keys() == old


async def test_what_is_waited_for_and_what_is_no_key_is_told() -> None:
    async def never(_: Credentials | None) -> Credentials:
        raise CredentialsAwaited("control has not sent credentials of role r yet")

    with pytest.raises(CredentialsAwaited, match="role r yet"):
        await RoleKeys(never).keys()
    role = Role()
    role.kept.keep("task", RoleType.EXECUTION, Credentials(credentials_id="e"))
    with pytest.raises(CredentialsMissing, match="the access key is missing"):
        await role.keys.keys()
