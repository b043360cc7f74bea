"""Credentials by their id, as the engine and containers ask for them."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from agent.awslogs.grants import Grant, LogGrants
from agent.model.payload import Credentials, RoleType
from agent.model.status import NetworkMode
from agent.resources.role_credentials import RoleCredentials
from agent.task_endpoint.audit import AuditLog
from agent.task_endpoint.credential_lookup import CredentialLookup
from agent.task_endpoint.credentials import CredentialsPart
from tests.unit.task_endpoint.conftest import HOST, OTHER, OURS, TASK, THEIRS, place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.task_endpoint.conftest import Asked, Serve

GRANTS = LogGrants(b"secret")
NOBODY = 4_000_000_000
ARN = "arn:aws:ecs:us-east-1:123456789012:container-instance/default/i1"


def credentials(credentials_id: str, role: str) -> Credentials:
    return Credentials(
        credentials_id=credentials_id,
        access_key_id="AKID",
        secret_access_key="very secret",
        session_token="token",
        role_arn=f"arn:aws:iam::123456789012:role/{role}",
        expiration="2030-01-01T00:00:00Z",
    )


GIVEN = {
    "RoleArn": "arn:aws:iam::123456789012:role/exec",
    "AccessKeyId": "AKID",
    "SecretAccessKey": "very secret",
    "Token": "token",
    "Expiration": "2030-01-01T00:00:00Z",
}
UNKNOWN = {
    "code": "InvalidIdInRequest",
    "message": "CredentialsV2Request: Credentials not found",
    "HTTPErrorCode": 400,
}


@pytest.fixture
def roles() -> RoleCredentials:
    kept = RoleCredentials()
    kept.keep(TASK, RoleType.EXECUTION, credentials("id-1", "exec"))
    kept.keep(TASK, RoleType.APPLICATION, credentials("id-app", "app"))
    kept.keep(OTHER, RoleType.APPLICATION, credentials("id-other", "other"))
    kept.expect(TASK, "id-2")
    kept.expect(OTHER, "id-other-2")
    return kept


class Desk:
    """Servers for one caller or another, with one audit log."""

    def __init__(self, serve: Serve, roles: RoleCredentials) -> None:
        self.lines: list[str] = []
        audit = AuditLog("default", lambda: ARN, self.lines.append)
        self._routes = CredentialsPart(CredentialLookup(GRANTS, roles), audit).routes()
        self._serve = serve

    @asynccontextmanager
    async def for_host(self) -> AsyncIterator[Asked]:
        async with self._serve(self._routes) as asked:
            yield asked

    @asynccontextmanager
    async def for_task(self) -> AsyncIterator[Asked]:
        places = [place(TASK, OURS, NetworkMode.HOST), place(OTHER, THEIRS, NetworkMode.HOST)]
        async with self._serve(self._routes, places) as asked:
            yield asked

    @asynccontextmanager
    async def for_nobody(self) -> AsyncIterator[Asked]:
        serve = self._serve(self._routes, superuser=NOBODY)
        async with serve as asked:
            yield asked


@pytest.fixture
def desk(serve: Serve, roles: RoleCredentials) -> Desk:
    return Desk(serve, roles)


async def got(asked: Asked, path: str) -> tuple[int, object]:
    said = await asked.get(path)
    assert said.headers["Content-Type"] == "application/json"
    return said.status, json.loads(said.body)


async def test_the_engine_gets_those_of_an_execution_role(desk: Desk) -> None:
    async with desk.for_host() as asked:
        assert await got(asked, "/v2/credentials/id-1") == (200, GIVEN)
        assert await got(asked, "/v1/credentials?id=id-1") == (200, GIVEN)


async def test_keys_for_logs_do_not_expire(desk: Desk) -> None:
    id_ = GRANTS.credentials_id(Grant("t1", create_group=False))
    keys = GRANTS.keys(id_)
    assert keys is not None
    given = {"AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key}
    async with desk.for_host() as asked:
        assert await got(asked, f"/v2/credentials/{id_}") == (200, given)
    async with desk.for_task() as asked:
        assert await got(asked, f"/v2/credentials/{id_}") == (400, UNKNOWN)


async def test_a_task_gets_its_own_and_nothing_else(desk: Desk) -> None:
    async with desk.for_task() as asked:
        status, given = await got(asked, "/v2/credentials/id-app")
        assert status == 200
        assert given == {**GIVEN, "RoleArn": "arn:aws:iam::123456789012:role/app"}
        assert (await got(asked, "/v2/credentials/id-2"))[0] == 503
        for other in ("id-other", "id-other-2", "id-1", "id-3"):
            assert await got(asked, f"/v2/credentials/{other}") == (400, UNKNOWN), other


async def test_other_users_of_the_host_get_nothing(desk: Desk) -> None:
    async with desk.for_nobody() as asked:
        for known in ("id-1", "id-app", "id-2"):
            assert await got(asked, f"/v2/credentials/{known}") == (400, UNKNOWN), known


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("v2/credentials/id-2", 503, "CredentialsUninitialized", "V2Request: Credentials uninitialized for ID"),
        ("v2/credentials/id-3", 400, "InvalidIdInRequest", "V2Request: Credentials not found"),
        ("v2/credentials/a/b", 400, "InvalidIdInRequest", "V2Request: Credentials not found"),
        ("v2/credentials/awslogs.any.t1." + "0" * 64, 400, "InvalidIdInRequest", "V2Request: Credentials not found"),
        ("v2/credentials/", 400, "NoIdInRequest", "V2Request: No Credential ID in the request"),
        ("v2/credentials", 400, "NoIdInRequest", "V2Request: No Credential ID in the request"),
        ("v1/credentials", 400, "NoIdInRequest", "V1Request: No Credential ID in the request"),
        ("v1/credentials?id=x", 400, "InvalidIdInRequest", "V1Request: Credentials not found"),
    ],
)  # fmt: skip
async def test_errors_are_those_of_amazons_agent(
    desk: Desk, path: str, status: int, code: str, message: str
) -> None:
    expected = {"code": code, "message": f"Credentials{message}", "HTTPErrorCode": status}
    async with desk.for_host() as asked:
        assert await got(asked, f"/{path}") == (status, expected)


async def test_each_request_is_a_line_of_both_logs_without_secrets(desk: Desk) -> None:
    with capture_logs() as lines:
        async with desk.for_host() as asked:
            for path in ("v2/credentials/id-1", "v1/credentials?id=id-app", "v2/credentials/id-2"):
                await asked.get(f"/{path}", headers={"User-Agent": 'sdk "1"'})
            await asked.get("/v2/credentials/id-3", headers={"User-Agent": ""})
    found = [line for line in lines if line["event"] == "credentials asked for"]
    assert [(line["task"], line["kind"], line["status"]) for line in found] == [
        (TASK, "GetCredentialsExecutionRole", 200),
        (TASK, "GetCredentials", 200),
        (TASK, "-", 503),
        ("-", "-", 400),
    ]
    ends = [line.partition(f" {HOST}:")[2].partition(" ")[2] for line in desk.lines]
    tail = f"2 default {ARN}"
    client = "\"sdk '1'\""
    assert ends == [
        f'"/v2/credentials" {client} {TASK} GetCredentialsExecutionRole {tail}',
        f'"/v1/credentials" {client} {TASK} GetCredentials {tail}',
        f'"/v2/credentials" {client} {TASK} ',
        '"/v2/credentials" "" - ',
    ]
    assert all(" 200 " in line for line in desk.lines[:2])
    said = f"{found} {desk.lines}"
    assert not any(word in said for word in ("very secret", "id-1", "id-app", "id-3"))
