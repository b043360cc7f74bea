"""The services as tasks use them, against a server on the loopback that stands for all of them."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agent.aws import services as services_module
from agent.aws.clock import AwsClock
from agent.aws.cloud import Access
from agent.aws.keys import Keys
from agent.aws.services import Endpoints, Services, open_services
from agent.config import load
from agent.errors import AwsRefused
from agent.model.payload import Credentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.aws.http import AwsHttp

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


AMAZON, AMAZON_FIPS = (
    [f"{name}.eu-west-1.amazonaws.com" for name in names]
    for names in (
        ("ssm", "secretsmanager", "s3", "api.ecr"),
        ("ssm-fips", "secretsmanager-fips", "s3-fips", "ecr-fips"),
    )
)


class Chain:
    """The host's own keys."""

    async def keys(self) -> Keys:
        return Keys("AKIAHOST", "host-secret")

    def refused(self, _keys: Keys) -> None:
        """Has no others."""


class NoMetadata:
    enabled = False


async def role(_other: Credentials | None) -> Credentials:
    return Credentials(credentials_id="e", access_key_id="ASIATASK", secret_access_key="s")


class Aws:
    """Answers every call; keeps who asked where for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        """Access key, region and service, and operation or path."""
        self.requests: list[dict[str, Any]] = []
        self.slow = asyncio.Event()
        self.slow.set()
        self.under_way = self.most = 0
        self.full = asyncio.Event()
        """Set once as many calls are under way as may be."""
        self.answers: dict[str, Any] = {
            "GetParameters": {"Parameters": [{"Name": "p", "Value": "one"}]},
            "GetSecretValue": {"SecretString": "two"},
            "GetAuthorizationToken": {
                "authorizationData": [{"authorizationToken": base64.b64encode(b"AWS:pw").decode()}]
            },
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        scope = request.headers["Authorization"].partition("Credential=")[2].split("/")
        target = request.headers.get("X-Amz-Target", request.raw_path)
        self.asked.append((scope[0], f"{scope[2]} {scope[3]}", target.rpartition(".")[2]))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.under_way == services_module.AT_ONCE:
            self.full.set()
        await self.slow.wait()
        self.under_way -= 1
        if request.method == "GET":
            return web.Response(body=b"A=1")
        self.requests.append(json.loads(await request.read()))
        return web.json_response(self.answers[target.rpartition(".")[2]])


@pytest.fixture
def aws() -> Aws:
    return Aws()


@pytest.fixture
async def services(http: AwsHttp, serve: Serve, aws: Aws) -> Services:
    url = await serve(aws.handle)
    settings = load({"AWS_ENDPOINT_URL": url, "ECS_CONTROL_ENDPOINT": "http://c"}, ())
    access: Any = Access(http, NoMetadata(), Chain(), AwsClock(), False)  # type: ignore[arg-type]
    return Services(access, Endpoints.of(settings, fips=False), settings)


async def test_each_call_is_signed_by_the_role_for_its_region(services: Services, aws: Aws) -> None:
    assert await services.parameters(role, "eu-west-1", ["p", "q"]) == {"p": "one"}
    assert await services.secret(role, "eu-west-2", "arn:s") == "two"
    assert await services.secret(role, "eu-west-2", "arn:s", stage="S", version="V") == "two"
    assert await services.object(role, "eu-west-3", "b", "k", limit_bytes=10) == b"A=1"
    token = await services.registry_token(role, "eu-west-4", "1234")
    assert (token.username, token.password) == ("AWS", "pw")
    await services.registry_token(None, "eu-west-4", "1234")
    assert aws.asked == [
        ("ASIATASK", "eu-west-1 ssm", "GetParameters"),
        ("ASIATASK", "eu-west-2 secretsmanager", "GetSecretValue"),
        ("ASIATASK", "eu-west-2 secretsmanager", "GetSecretValue"),
        ("ASIATASK", "eu-west-3 s3", "/b/k"),
        ("ASIATASK", "eu-west-4 ecr", "GetAuthorizationToken"),
        ("AKIAHOST", "eu-west-4 ecr", "GetAuthorizationToken"),
    ]
    assert aws.requests[1] == {"SecretId": "arn:s"}
    assert aws.requests[2] == {"SecretId": "arn:s", "VersionStage": "S", "VersionId": "V"}


async def test_a_binary_secret_has_no_text(services: Services, aws: Aws) -> None:
    aws.answers["GetSecretValue"] = {"SecretBinary": "AAAA"}
    assert await services.secret(role, "eu-west-2", "arn:s") is None


async def test_a_region_that_nobody_names_is_asked_for(services: Services) -> None:
    with pytest.raises(AwsRefused, match="set AWS_DEFAULT_REGION"):
        await services.parameters(role, "", ["p"])
    # S3 says itself where a bucket is.
    assert await services.object(role, "", "b", "k", limit_bytes=10) == b"A=1"


@pytest.mark.parametrize(
    "region", ["evil.example/#", "r/1", "eu west", "EU-WEST-1", "a" * 300, "."]
)
async def test_what_is_no_region_is_asked_nowhere(
    services: Services, aws: Aws, region: str
) -> None:
    calls = [
        services.parameters(role, region, ["p"]),
        services.secret(role, region, "s"),
        services.object(role, region, "b", "k", limit_bytes=10),
        services.registry_token(None, region, "1"),
    ]
    for call in calls:
        with pytest.raises(AwsRefused, match="is not a region"):
            await call
    assert aws.asked == []


async def test_calls_at_one_endpoint_are_bounded(services: Services, aws: Aws) -> None:
    aws.slow.clear()
    calls = [
        asyncio.create_task(services.secret(role, "eu-west-1", str(n)))
        for n in range(services_module.AT_ONCE * 2)
    ]
    await aws.full.wait()
    await asyncio.sleep(0.05)
    aws.slow.set()
    await asyncio.gather(*calls)
    assert aws.most == services_module.AT_ONCE
    assert len(aws.requests) == len(calls)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [("https://vpce-1.ecr.example", None), ("::bad::", "not a URL"), ("ftp://x", "not a URL")],
)
async def test_an_endpoint_that_control_names_counts_where_the_host_names_none(
    services: Services, endpoint: str, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the host names wins: this is answered by the server on the loopback.
    assert (
        await services.registry_token(role, "eu-west-1", "1", endpoint=endpoint)
    ).username == "AWS"
    services._endpoints = Endpoints({})
    if url is None:
        api = await services._api("ecr", "T", Chain(), "eu-west-1", endpoint)
        assert str(api.endpoint) == endpoint
        return
    with pytest.raises(AwsRefused, match=url):
        await services.registry_token(role, "eu-west-1", "1", endpoint=endpoint)


@pytest.mark.parametrize(
    ("given", "fips", "urls"),
    [
        ({}, False, [f"https://{name}" for name in AMAZON]),
        ({}, True, [f"https://{name}" for name in AMAZON_FIPS]),
        (
            {"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_S3": "http://s3:2/x/"},
            False,
            ["http://all:1", "http://all:1", "http://s3:2/x", "http://all:1"],
        ),
        (
            {
                "AWS_ENDPOINT_URL_SSM": "http://a",
                "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://b",
                "AWS_ENDPOINT_URL_ECR": "http://c",
            },
            True,
            ["http://a", "http://b", f"https://{AMAZON_FIPS[2]}", "http://c"],
        ),
    ],
)
def test_where_the_services_are(given: dict[str, str], fips: bool, urls: list[str]) -> None:
    settings = load({**given, "ECS_CONTROL_ENDPOINT": "http://c"}, ())
    endpoints = Endpoints.of(settings, fips=fips)
    found = [endpoints.url(name, "eu-west-1") for name in ("ssm", "secretsmanager", "s3", "ecr")]
    assert [str(url).rstrip("/") for url in found] == urls


async def test_opening_asks_nobody() -> None:
    settings = load({"ECS_CONTROL_ENDPOINT": "http://c"}, ())
    async with open_services(settings, {}) as opened:
        assert isinstance(opened, Services)
