from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore
import pytest
from aiohttp import web
from botocore.endpoint_provider import EndpointProvider
from botocore.loaders import Loader
from yarl import URL

from agent.aws.imds import Imds
from agent.aws.places import _PARTITIONS, Region, find_region, fips_enabled, service_url
from agent.errors import AwsUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.aws.http import AwsHttp

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]

DATA = Path(botocore.__file__).parent / "data"


def partitions() -> list[dict[str, Any]]:
    found = json.loads((DATA / "partitions.json").read_text())["partitions"]
    assert isinstance(found, list)
    return found


def test_the_table_is_that_of_botocore() -> None:
    theirs = {(p["outputs"]["dnsSuffix"], p["outputs"]["dualStackDnsSuffix"]) for p in partitions()}
    assert {(p.suffix, p.dual_stack_suffix) for p in _PARTITIONS} == theirs


@pytest.mark.parametrize("partition", partitions(), ids=lambda p: str(p["id"]))
def test_every_region_is_in_its_partition(partition: dict[str, Any]) -> None:
    outputs = partition["outputs"]
    for region in partition["regions"]:
        if region.endswith("-global") or not re.match(partition["regionRegex"], region):
            continue
        url = service_url("ecs", region)
        assert url == URL(f"https://ecs.{region}.{outputs['dnsSuffix']}")
        url = service_url("ecs", region, fips=True, dual_stack=True)
        assert url == URL(f"https://ecs-fips.{region}.{outputs['dualStackDnsSuffix']}")


@pytest.mark.parametrize("service", ["ecs", "ec2"])
@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1", "us-isob-east-1"])
@pytest.mark.parametrize("fips", [False, True])
@pytest.mark.parametrize("dual_stack", [False, True])
def test_endpoints_are_those_of_botocore(
    service: str, region: str, fips: bool, dual_stack: bool
) -> None:
    loader = Loader()
    rules = loader.load_service_model(service, "endpoint-rule-set-1")
    provider = EndpointProvider(rules, loader.load_data("partitions"))
    theirs = provider.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dual_stack)
    assert service_url(service, region, fips=fips, dual_stack=dual_stack) == URL(theirs.url)


@pytest.mark.parametrize(
    ("override", "url"),
    [
        ("ecs.example", "https://ecs.example"),
        ("ecs.example:8443", "https://ecs.example:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://user:pw@ecs.example/path?q#f", "https://ecs.example/path"),
    ],
)
def test_an_override_wins(override: str, url: str) -> None:
    assert service_url("ecs", "eu-west-1", override=override, fips=True) == URL(url)


@pytest.mark.parametrize("override", ["ftp://host", "https://", "http://host:99999", "http://["])
def test_an_override_that_is_no_url_names_its_variable(override: str) -> None:
    with pytest.raises(ConfigError, match="ECS_BACKEND_HOST"):
        service_url("ecs", "eu-west-1", override=override)


def answering(document: str | None, placement: str | None) -> Any:
    async def handler(request: web.Request) -> web.Response:
        if request.method == "PUT":
            return web.Response(text="token")
        answer = document if request.path.endswith("/document") else placement
        return web.Response(status=404) if answer is None else web.Response(text=answer)

    return handler


@pytest.mark.parametrize(
    ("document", "placement"),
    [
        ('{"region": "eu-west-1"}', None),
        (None, "eu-west-1\n"),
        ("[]", "eu-west-1"),
        ("{}", "eu-west-1"),
    ],
)
async def test_metadata_knows_the_region(
    document: str | None, placement: str | None, http: AwsHttp, serve: Serve
) -> None:
    imds = Imds(http, endpoint=await serve(answering(document, placement)))
    assert await find_region("", imds) == Region("eu-west-1")


async def test_what_is_configured_wins(http: AwsHttp) -> None:
    imds = Imds(http, enabled=False)
    url = "https://ecs.us-east-2.amazonaws.com"
    assert await find_region("eu-west-2", imds) == Region("eu-west-2")
    assert await find_region("eu-west-2", imds, override=url) == Region("eu-west-2")


@pytest.mark.parametrize("told", ['{"region": "x/../y"}', '{"region": 7}', "{}"])
async def test_a_region_that_is_none_is_not_taken(told: str, http: AwsHttp, serve: Serve) -> None:
    imds = Imds(http, endpoint=await serve(answering(told, None)))
    with pytest.raises(AwsUnavailable):
        await find_region("", imds)


async def test_who_is_told_not_to_ask_needs_a_setting(http: AwsHttp) -> None:
    with pytest.raises(ConfigError, match="AWS_DEFAULT_REGION"):
        await find_region("", Imds(http, enabled=False))


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("http://127.0.0.1:6820", None),
        ("control.example:6821", None),
        ("https://ecs.our-own-company.example", None),
        ("https://ecs.eu-central-1.amazonaws.com", "eu-central-1"),
        ("ecs-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("ecs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("ecs.ap-southeast-2.api.aws:443", "ap-southeast-2"),
        ("https://vpce-0a1-b2c.ecs.eu-west-3.vpce.amazonaws.com/", "eu-west-3"),
    ],
)
@pytest.mark.parametrize("external", [True, False])
async def test_who_names_the_endpoint_need_not_name_the_region(
    external: bool, endpoint: str, region: str | None, http: AwsHttp
) -> None:
    imds = Imds(http, enabled=external, endpoint="http://127.0.0.1:1")  # asked, it would fail
    found = await find_region("", imds, external=external, override=endpoint)
    assert found == (Region(region) if region else Region("us-east-1", is_guess=True))


async def test_a_host_elsewhere_needs_a_setting_without_an_endpoint(http: AwsHttp) -> None:
    with pytest.raises(ConfigError, match="AWS_DEFAULT_REGION"):
        await find_region("", Imds(http), external=True)


async def test_metadata_knows_better_than_the_name_of_an_endpoint(
    http: AwsHttp, serve: Serve
) -> None:
    imds = Imds(http, endpoint=await serve(answering('{"region": "eu-west-1"}', None)))
    found = await find_region("", imds, override="ecs.us-east-2.amazonaws.com")
    assert found == Region("eu-west-1")


async def test_metadata_that_does_not_answer_is_waited_for(http: AwsHttp) -> None:
    with pytest.raises(AwsUnavailable, match="the region is unknown: "):
        await find_region("", Imds(http, endpoint="http://127.0.0.1:1"))


@pytest.mark.parametrize(("text", "on"), [("1\n", True), ("0\n", False), (None, False)])
async def test_fips_is_what_the_kernel_says(text: str | None, on: bool, tmp_path: Path) -> None:
    file = tmp_path / "fips_enabled"
    if text is not None:
        file.write_text(text)
    assert await fips_enabled(file) is on
