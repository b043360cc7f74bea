"""Roles by STS: which keys are used, and what each answer means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.roles.contract import RoleAwaited, RoleRefused
from agent.controlplane.roles.settings import Environ, RoleSettings
from agent.controlplane.roles.sts import Environment, StsRoles
from agent.errors import ConfigError
from tests.support.scripted_sts import Asked, ScriptedSts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path


def settings(environ: Mapping[str, str], **more: Any) -> RoleSettings:
    return RoleSettings(environ=Environ(environ), **more)


ROLE = "arn:aws:iam::123456789012:role/app"


@pytest.fixture
async def sts() -> AsyncIterator[ScriptedSts]:
    async with ScriptedSts.running() as running:
        yield running


async def test_credentials_of_a_role(sts: ScriptedSts) -> None:
    async with StsRoles.open(settings(sts.environ(), duration_s=1800), region="us-east-1") as roles:
        assert await roles.problem() == ""
        found = await roles.assume(ROLE, "task1")
    assert sts.asked == [Asked(ROLE, "task1", 1800)]
    credentials = found.credentials
    assert credentials.access_key_id == "ASIA0000000000000001"
    assert credentials.secret_access_key == "secret-canary-1"  # noqa: S105
    assert credentials.session_token == "token-canary-1"  # noqa: S105
    assert (credentials.role_arn, credentials.credentials_id) == (ROLE, "")
    assert abs(found.expires_at - roles.now() - 1800) < 60
    assert "canary" not in repr(found)


async def test_a_name_is_a_role_of_the_account_of_the_keys(sts: ScriptedSts) -> None:
    async with StsRoles.open(settings(sts.environ()), region="us-east-1") as roles:
        for _ in range(2):
            assert (await roles.assume("app", "task1")).credentials.role_arn == ROLE
    assert [asked.role for asked in sts.asked] == [ROLE, ROLE]


@pytest.mark.parametrize(
    ("status", "code", "kind", "text"),
    [
        (403, "AccessDenied", RoleRefused, "AssumeRole: AccessDenied: as the test says"),
        (400, "ValidationError", RoleRefused, "ValidationError"),
        (403, "InvalidClientTokenId", RoleAwaited, "STS refuses the keys of control"),
        (403, "ExpiredToken", RoleAwaited, "STS refuses the keys of control"),
        (400, "Throttling", RoleAwaited, "Throttling"),
        (500, "InternalFailure", RoleAwaited, "InternalFailure"),
        (503, "", RoleAwaited, "HTTP 503"),
    ],
)
async def test_what_an_answer_means(
    status: int, code: str, kind: type[Exception], text: str, sts: ScriptedSts
) -> None:
    sts.fault = (status, code)
    async with StsRoles.open(settings(sts.environ()), region="us-east-1") as roles:
        with pytest.raises(kind, match=text) as caught:
            await roles.assume(ROLE, "task1")
    assert "canary" not in str(caught.value)


async def test_sts_that_is_away_is_waited_for() -> None:
    async with ScriptedSts.running() as sts:
        environ = sts.environ()
    async with StsRoles.open(settings(environ), region="us-east-1") as roles:
        with pytest.raises(RoleAwaited, match="listens on 127"):
            await roles.assume(ROLE, "task1")


async def test_without_keys_the_mend_is_told(sts: ScriptedSts) -> None:
    environ = sts.environ()
    del environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]
    async with StsRoles.open(settings(environ), region="us-east-1") as roles:
        problem = await roles.problem()
        with pytest.raises(RoleAwaited, match="control has no keys"):
            await roles.assume(ROLE, "task1")
    assert "give control AWS keys" in problem
    assert "AWS_ACCESS_KEY_ID" in problem
    assert "environment variables: nothing there" in problem
    assert not sts.asked


async def test_keys_are_found_in_the_shared_file(sts: ScriptedSts, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[roles]\naws_access_key_id = AKIDFILE\naws_secret_access_key = x\n")
    environ = sts.environ(AWS_SHARED_CREDENTIALS_FILE=str(file), AWS_PROFILE="roles")
    del environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]
    async with StsRoles.open(settings(environ), region="us-east-1") as roles:
        assert await roles.problem() == ""


@pytest.mark.parametrize("own", ["ECSKABCDEFGHIJKLMNOP", "open"])
async def test_keys_of_control_itself_are_none_of_aws(own: str, sts: ScriptedSts) -> None:
    environ = sts.environ(AWS_ACCESS_KEY_ID=own, AWS_SESSION_TOKEN="x")
    async with StsRoles.open(settings(environ), region="us-east-1") as roles:
        assert "control has no keys" in await roles.problem()


def test_what_is_read_of_the_environment() -> None:
    read = Environment.read({"https_proxy": "p:1", "AWS_DEFAULT_REGION": "eu-west-3"}, "us-east-1")
    assert (read.region, read.https_proxy, read.http_proxy) == ("eu-west-3", "p:1", "")
    assert Environment.read({}, "us-east-1").region == "us-east-1"
    both = {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_STS": "http://b"}
    assert Environment.read(both, "us-east-1").endpoint == "http://b"
    only = Environment.read({"AWS_ENDPOINT_URL": "http://a"}, "us-east-1")
    assert (only.endpoint, only.endpoint_variable) == ("http://a", "AWS_ENDPOINT_URL")
    own = both | {"AWS_ACCESS_KEY_ID": "ECSKABCDEFGHIJKLMNOP"}
    assert Environment.read(own, "us-east-1").endpoint == "", "ecs-agent env has set them"
    assert "canary" not in repr(Environment.read({"AWS_SECRET_ACCESS_KEY": "canary"}, "r"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_ENDPOINT_URL_STS", "ftp://host"),
        ("AWS_CA_BUNDLE", "/nonexistent/ca.pem"),
        ("HTTPS_PROXY", "socks5://host:1"),
    ],
)
async def test_a_variable_that_cannot_be_used_is_named(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=value if variable == "AWS_CA_BUNDLE" else variable):
        async with StsRoles.open(settings({variable: value}), region="us-east-1"):
            pass
