"""The places where keys are looked for: settings, files, programs, services, and their order."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiohttp import web

from agent.aws import credentials, rotating, sources
from agent.aws.clock import AwsClock
from agent.aws.credentials import CredentialChain, chain_for
from agent.aws.imds import Imds
from agent.aws.keys import Keys
from agent.errors import CredentialsMissing
from tests.unit.aws.conftest import NOW, Times, keys, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agent.aws.http import AwsHttp

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


def write(path: Path, number: int, *, extra: str = "") -> None:
    """Replace a credentials file as the SSM agent does: write beside it, rename."""
    beside = path.with_name("beside")
    beside.write_text(
        f"[default]\naws_access_key_id=ASIA{number}\naws_secret_access_key=secret-{number}\n"
        f"aws_session_token=token-{number}\n{extra}"
    )
    beside.replace(path)


def instance(answers: dict[str, Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        if request.method == "PUT":
            return web.Response(text="token")
        path = request.path.removeprefix("/latest/meta-data/iam/security-credentials/")
        answer = answers.get(path)
        if answer is None:
            return web.Response(status=404)
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)

    return handle


def role(number: int, *, expiration: str = "2027-01-15T14:00:00Z") -> dict[str, Any]:
    return {
        "Code": "Success",
        "AccessKeyId": f"ASIA{number}",
        "SecretAccessKey": f"secret-{number}",
        "Token": f"token-{number}",
        "Expiration": expiration,
    }


@pytest.fixture
async def chain_of(http: AwsHttp, tmp_path: Path) -> AsyncIterator[Callable[..., CredentialChain]]:
    chains: list[CredentialChain] = []

    def make(**changes: Any) -> CredentialChain:
        arguments: dict[str, Any] = {
            "given": None,
            "external": False,
            "profile": "default",
            "rotating_file": tmp_path / "rotating",
            "imds": Imds(http, enabled=False),
            "environ": {"HOME": str(tmp_path)},
            "clock": AwsClock(lambda: NOW),
        }
        chain = chain_for(**{**arguments, **changes})
        chains.append(chain)
        return chain

    yield make
    for chain in chains:
        await chain.close()


async def test_keys_in_the_settings_come_first(chain_of: Any, tmp_path: Path) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "secret"}
    given = Keys("AKIAGIVEN", "secret")
    assert await chain_of(given=given, environ=environ).keys() == given
    with pytest.raises(CredentialsMissing, match="settings: the secret key is missing"):
        await chain_of(given=Keys("AKIAGIVEN", "")).keys()


async def test_the_environment(chain_of: Any) -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "ASIAENV",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
    }
    assert await chain_of(environ=environ).keys() == Keys("ASIAENV", "secret", "token")
    until = {**environ, "AWS_CREDENTIAL_EXPIRATION": "2099-01-15T08:00:00Z"}
    assert (await chain_of(environ=until).keys()).expires_at == 4_072_147_200.0
    with pytest.raises(CredentialsMissing, match="AWS_SECRET_ACCESS_KEY is missing"):
        await chain_of(environ={"AWS_ACCESS_KEY_ID": "ASIAENV", "HOME": "/nonexistent"}).keys()


@pytest.mark.parametrize("external", [False, True])
async def test_the_order_of_the_shared_and_the_rotating_file(
    external: bool, chain_of: Any, tmp_path: Path
) -> None:
    (tmp_path / ".aws").mkdir()
    write(tmp_path / ".aws" / "credentials", 1)
    write(tmp_path / "rotating", 2)
    found = await chain_of(external=external).keys()
    assert found == (keys(2) if external else keys(1))


@pytest.mark.parametrize("external", [False, True])
async def test_the_order_of_the_role_and_the_rotating_file(
    external: bool, chain_of: Any, http: AwsHttp, serve: Serve, tmp_path: Path
) -> None:
    imds = Imds(http, endpoint=await serve(instance({"": "the-role\n", "the-role": role(1)})))
    write(tmp_path / "rotating", 2)
    found = await chain_of(external=external, imds=imds).keys()
    assert found.access_key == ("ASIA2" if external else "ASIA1")


async def test_the_role_of_an_instance(chain_of: Any, http: AwsHttp, serve: Serve) -> None:
    answers: dict[str, Any] = {"": "the role+x", "the role+x": role(1)}
    imds = Imds(http, endpoint=await serve(instance(answers)))
    assert await chain_of(imds=imds).keys() == Keys("ASIA1", "secret-1", "token-1", NOW + 6 * 3600)
    for broken, said in (
        ({"Code": "AssumeRoleUnauthorizedAccess"}, "AssumeRoleUnauthorizedAccess"),
        ({**role(1), "SecretAccessKey": None}, "the secret key is missing"),
        ({**role(1), "Token": "hidden\r\nX: y"}, "contains blanks"),
        (["hidden"], "the role's credentials are missing"),
        ("{hidden", "not valid JSON"),
        (500, "500"),
        (None, "the role's credentials are missing"),
    ):
        answers["the role+x"] = broken
        with pytest.raises(CredentialsMissing, match=said) as caught:
            await chain_of(imds=imds).keys()
        assert "hidden" not in str(caught.value)
    answers[""] = None
    with pytest.raises(CredentialsMissing, match="instance metadata: nothing there"):
        await chain_of(imds=imds).keys()


async def test_a_role_is_renewed_in_the_midst_of_calls(
    http: AwsHttp, serve: Serve, times: Times
) -> None:
    answers: dict[str, Any] = {"": "r", "r": role(1, expiration="2027-01-15T09:00:00Z")}
    imds = Imds(http, endpoint=await serve(instance(answers)))
    chain = CredentialChain([sources.MetadataSource(imds)], times.clock, steady=times.steady)
    seen: set[str] = set()

    async def use() -> None:
        for _ in range(40):
            seen.add((await chain.keys()).access_key)
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(use())
        while not seen:  # noqa: ASYNC110 - it takes no longer than the first answer
            await asyncio.sleep(0.001)
        answers["r"] = 503
        times.passed = 3600 - 800
        await asyncio.sleep(0.01)
        answers["r"] = role(2, expiration="2027-01-15T10:00:00Z")
        times.passed = 3600 - 700
    assert seen == {"ASIA1", "ASIA2"}
    await chain.close()


async def test_a_rotating_file_is_followed(chain_of: Any, tmp_path: Path) -> None:
    path = tmp_path / "rotating"
    write(path, 1)
    chain = chain_of(external=True)
    assert await chain.keys() == keys(1)
    chain._looked_at = -1e9
    write(path, 2)
    assert await chain.keys() == keys(2)
    chain._looked_at = -1e9
    path.write_text("[default]\naws_access_key_id=ASIA3\n")  # half written
    assert await chain.keys() == keys(2)
    write(path, 3)
    chain._looked_at, chain._next_try = -1e9, 0.0
    assert await chain.keys() == keys(3)
    chain._looked_at = -1e9
    path.unlink()
    assert await chain.keys() == keys(3)


async def test_a_rotating_file_is_read_again_each_minute(
    chain_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever a file system says about its times.
    monkeypatch.setattr(rotating, "stamp", lambda _: ())
    path = tmp_path / "rotating"
    write(path, 1)
    chain = chain_of(external=True)
    steady = time.monotonic()
    chain._steady = lambda: steady
    await chain.keys()
    write(path, 2)
    steady += 59
    assert await chain.keys() == keys(1)
    steady += 2
    await chain.keys()
    await settle(chain)
    assert await chain.keys() == keys(2)


async def test_a_file_that_hangs_stops_nobody(
    chain_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "LOOK_LIMIT_S", 0.05)
    path = tmp_path / "rotating"
    write(path, 1)
    chain = chain_of(external=True)
    await chain.keys()
    monkeypatch.setattr(rotating, "stamp", lambda _: time.sleep(0.6))
    for _ in range(3):
        chain._looked_at = -1e9
        began = time.monotonic()
        assert await asyncio.gather(*[chain.keys() for _ in range(10)]) == [keys(1)] * 10
        assert time.monotonic() - began < 0.5


async def test_the_shared_files_give_keys_or_a_program(chain_of: Any, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    config = tmp_path / ".aws" / "config"
    config.write_text(
        "[default]\naws_access_key_id=AKIACONFIG\naws_secret_access_key=secret\n"
        f"[profile helped]\ncredential_process = {helper(tmp_path)} 1\n"
        f"[profile failing]\ncredential_process = {helper(tmp_path)} fail\n"
        f"[profile other]\ncredential_process = {helper(tmp_path)} nonsense\n"
        "[profile roled]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\n"
    )
    home = {"HOME": str(tmp_path)}
    assert await chain_of().keys() == Keys("AKIACONFIG", "secret")
    found = await chain_of(environ={**home, "AWS_PROFILE": "helped"}).keys()
    assert found == Keys("ASIA1", "secret-1", "token-1", 4_072_147_200.0)
    for profile, said in (
        ("failing", "run the program"),
        ("other", "custom-process"),
        ("roled", "uses role_arn"),
        ("missing", "nothing there"),
    ):
        with pytest.raises(CredentialsMissing, match=said) as caught:
            await chain_of(environ={**home, "AWS_PROFILE": profile}).keys()
        assert "hidden" not in str(caught.value)
    elsewhere = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
    assert await chain_of(environ={**home, **elsewhere}).keys() == Keys("AKIACONFIG", "secret")


def helper(directory: Path) -> Path:
    """Write a program that prints keys, complains, or never ends."""
    path = directory / "helper"
    path.write_text(
        "#!/bin/sh\n"
        "case $1 in\n"
        "fail) echo hidden-secret >&2; exit 1;;\n"
        "hang) sleep 60 & echo $! > $2; wait;;\n"
        'nonsense) echo "{hidden-secret";;\n'
        '*) echo "{\\"Version\\":1,\\"AccessKeyId\\":\\"ASIA$1\\",\\"SecretAccessKey\\":'
        '\\"secret-$1\\",\\"SessionToken\\":\\"token-$1\\",'
        '\\"Expiration\\":\\"2099-01-15T08:00:00Z\\"}";;\n'
        "esac\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


async def test_a_program_that_never_ends_is_ended_with_its_children(
    chain_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "HELPER_S", 1.0)
    (tmp_path / ".aws").mkdir()
    pid_file = tmp_path / "pid"
    (tmp_path / ".aws" / "config").write_text(
        f"[default]\ncredential_process = {helper(tmp_path)} hang {pid_file}\n"
    )
    with pytest.raises(CredentialsMissing, match="took longer than"):
        await chain_of().keys()
    pid = int(pid_file.read_text())
    for _ in range(100):
        if not is_running(pid):
            return
        await asyncio.sleep(0.02)
    raise AssertionError


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - a test
            return file.read().split()[2] != "Z"
    except OSError:
        return False


async def test_a_containers_credential_service(chain_of: Any, serve: Serve, tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "the-token"
        return web.json_response(role(5, expiration="2099-01-15T08:00:00Z"))

    environ = {
        "HOME": str(tmp_path),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{await serve(handle)}/creds",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the-token",
    }
    found = await chain_of(environ=environ).keys()
    assert (found.access_key, found.expires_at) == ("ASIA5", 4_072_147_200.0)
    away = {**environ, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/creds"}
    with pytest.raises(CredentialsMissing, match="container credentials: container-role"):
        await chain_of(environ=away).keys()


async def test_no_secret_is_shown(chain_of: Any, tmp_path: Path) -> None:
    write(tmp_path / "rotating", 7)
    with structlog.testing.capture_logs() as logs:
        chain = chain_of()
        found = await chain.keys()
        (tmp_path / "rotating").write_text("[default]\naws_secret_access_key=secret-7\n")
        chain._looked_at = -1e9
        await chain.keys()
    assert [line["event"] for line in logs] == ["credentials found", "credentials cannot be read"]
    for shown in (repr(found), str(found), f"{found}", repr(logs), repr(vars(chain))):
        assert "secret-7" not in shown
        assert "token-7" not in shown
    assert found.scrub("a secret-7 b token-7 c") == "a *** b *** c"
