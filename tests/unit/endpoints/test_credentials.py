"""Credentials by their id, as the engine asks for them."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from structlog.testing import capture_logs

from agent.awslogs.grants import Grant, LogGrants
from agent.endpoints.credential_lookup import CredentialLookup
from agent.endpoints.credentials import CredentialsServer
from agent.model.payload import Credentials, RoleType
from agent.resources.role_credentials import RoleCredentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TASK = "arn:aws:ecs:us-east-1:123456789012:task/default/t1"
GRANTS = LogGrants(b"secret")
ROLE = Credentials(
    credentials_id="id-1",
    access_key_id="AKID",
    secret_access_key="very secret",
    session_token="token",
    role_arn="arn:aws:iam::123456789012:role/exec",
    expiration="2030-01-01T00:00:00Z",
)


@pytest.fixture
def roles() -> RoleCredentials:
    kept = RoleCredentials()
    kept.keep(TASK, RoleType.EXECUTION, ROLE)
    kept.expect(TASK, "id-2")
    return kept


@pytest.fixture
async def url(roles: RoleCredentials) -> AsyncIterator[str]:
    bound = socket.create_server(("127.0.0.1", 0))
    server = await CredentialsServer.open(bound, CredentialLookup(GRANTS, roles))
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    await server.close()


async def get(url: str) -> tuple[int, object]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.json()


async def test_credentials_of_a_role_as_amazons_agent_gives_them(url: str) -> None:
    assert await get(f"{url}/v2/credentials/id-1") == (
        200,
        {
            "RoleArn": ROLE.role_arn,
            "AccessKeyId": "AKID",
            "SecretAccessKey": "very secret",
            "Token": "token",
            "Expiration": "2030-01-01T00:00:00Z",
        },
    )


async def test_keys_for_logs_do_not_expire(url: str) -> None:
    id_ = GRANTS.credentials_id(Grant("t1", create_group=False))
    keys = GRANTS.keys(id_)
    assert keys is not None
    assert await get(f"{url}/v2/credentials/{id_}") == (
        200,
        {"AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key},
    )


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("id-2", 503, "CredentialsUninitialized", "Credentials uninitialized for ID"),
        ("id-3", 400, "InvalidIdInRequest", "Credentials not found"),
        ("awslogs.any.t1." + "0" * 64, 400, "InvalidIdInRequest", "Credentials not found"),
        ("", 400, "NoIdInRequest", "No Credential ID in the request"),
    ],
)
async def test_errors_are_those_of_amazons_agent(
    url: str, path: str, status: int, code: str, message: str
) -> None:
    expected = {
        "code": code,
        "message": f"CredentialsV2Request: {message}",
        "HTTPErrorCode": status,
    }
    assert await get(f"{url}/v2/credentials/{path}") == (status, expected)


async def test_each_request_is_a_line_of_the_log_without_secrets(url: str) -> None:
    with capture_logs() as lines:
        for path in ("id-1", "id-2", "id-3"):
            await get(f"{url}/v2/credentials/{path}")
    found = [line for line in lines if line["event"] == "credentials asked for"]
    assert [(line["task"], line["kind"], line["status"]) for line in found] == [
        (TASK, "GetCredentialsExecutionRole", 200),
        (TASK, "-", 503),
        ("-", "-", 400),
    ]
    assert not any(word in str(found) for word in ("very secret", "id-1", "id-3"))


async def test_other_paths_are_not_served(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/v1/agent", "/v2/credentialsX"):
            async with session.get(f"{url}{path}") as answer:
                assert answer.status == 404
        async with session.post(f"{url}/v2/credentials/id-1") as answer:
            assert answer.status == 405
