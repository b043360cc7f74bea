from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.aws import imds as imds_module
from agent.aws.http import AwsHttp, Proxies
from agent.aws.imds import Imds
from agent.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]


class Instance:
    """A metadata service with tokens that can be taken back."""

    def __init__(self) -> None:
        self.token = 0
        self.tokens_given = 0
        self.paths: list[str] = []
        self.answers: dict[str, web.Response | str] = {}
        self.failures = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.removeprefix("/latest/")
        if path == "api/token":
            assert request.method == "PUT"
            assert request.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
            self.tokens_given += 1
            return web.Response(text=f"token-{self.token}==")
        if request.headers.get("X-aws-ec2-metadata-token") != f"token-{self.token}==":
            return web.Response(status=401)
        self.paths.append(path)
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        answer = self.answers.get(path)
        if answer is None:
            return web.Response(status=404)
        return web.Response(text=answer) if isinstance(answer, str) else answer


@pytest.fixture
def instance() -> Instance:
    return Instance()


async def test_reads_with_one_token(http: AwsHttp, serve: Serve, instance: Instance) -> None:
    instance.answers = {"meta-data/instance-id": " i-1\n", "meta-data/iam/": "role"}
    imds = Imds(http, endpoint=await serve(instance.handle))
    answers = await asyncio.gather(*[imds.text("meta-data/instance-id") for _ in range(10)])
    assert answers == ["i-1"] * 10
    assert await imds.text("meta-data/iam/") == "role"
    assert await imds.text("meta-data/spot/instance-action") is None
    assert instance.tokens_given == 1


async def test_a_token_that_was_taken_back_is_got_anew(
    http: AwsHttp, serve: Serve, instance: Instance
) -> None:
    instance.answers = {"a": "b"}
    imds = Imds(http, endpoint=await serve(instance.handle))
    assert await imds.text("a") == "b"
    instance.token = 1
    assert await asyncio.gather(*[imds.text("a") for _ in range(2)]) == ["b", "b"]
    assert instance.tokens_given == 2


async def test_a_token_is_replaced_before_it_ends(
    http: AwsHttp, serve: Serve, instance: Instance
) -> None:
    now = [0.0]
    instance.answers = {"a": "b"}
    imds = Imds(http, endpoint=await serve(instance.handle), clock=lambda: now[0])
    await imds.text("a")
    now[0] = 6 * 3600 - 200.0
    await imds.text("a")
    assert instance.tokens_given == 2


async def test_a_service_that_takes_no_token_is_away(http: AwsHttp, serve: Serve) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="t") if request.method == "PUT" else web.Response(status=401)

    with pytest.raises(AwsUnavailable, match="401") as caught:
        await Imds(http, endpoint=await serve(handler)).text("a")
    assert caught.value.code == "401"


@pytest.mark.parametrize("token", ["", "a\nb", "x" * 2000, "é"])
async def test_a_token_that_no_header_can_carry_is_refused(
    token: str, http: AwsHttp, serve: Serve
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=token)

    with pytest.raises(AwsUnavailable, match="not a valid token"):
        await Imds(http, endpoint=await serve(handler)).text("a")


async def test_json(http: AwsHttp, serve: Serve, instance: Instance) -> None:
    instance.answers = {"doc": '{"region": "eu-west-1"}', "bad": "{", "deep": "[" * 100_000}
    imds = Imds(http, endpoint=await serve(instance.handle))
    assert await imds.json("doc") == {"region": "eu-west-1"}
    assert await imds.json("missing") is None
    for path in ("bad", "deep"):
        with pytest.raises(AwsUnavailable, match="not valid JSON"):
            await imds.json(path)


async def test_an_error_is_told_by_its_status(
    http: AwsHttp, serve: Serve, instance: Instance
) -> None:
    imds = Imds(http, endpoint=await serve(instance.handle))
    instance.failures = 1
    with pytest.raises(AwsUnavailable) as caught:
        await imds.text("meta-data/mac")
    assert caught.value.code == "503"


async def test_insists_until_there_is_an_answer(
    http: AwsHttp, serve: Serve, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imds_module, "_FIRST_S", 0.001)
    instance.answers = {"a": "b"}
    instance.failures = 3
    imds = Imds(http, endpoint=await serve(instance.handle))
    assert await imds.insist("a") == "b"
    assert len(instance.paths) == 4
    instance.failures = 100
    with pytest.raises(AwsUnavailable):
        await imds.insist("a", limit_s=0.01)


async def test_nobody_asks_where_it_is_switched_off(http: AwsHttp) -> None:
    imds = Imds(http, enabled=False, endpoint="http://127.0.0.1:1")
    for call in (imds.text, imds.json, imds.insist):
        with pytest.raises(AwsUnavailable, match="not used"):
            await call("a")


async def test_never_goes_through_a_proxy(serve: Serve, instance: Instance) -> None:
    instance.answers = {"a": "b"}
    endpoint = (await serve(instance.handle)).replace("127.0.0.1", "localhost")
    async with AwsHttp(Proxies(http="http://127.0.0.1:1", no_proxy="x")) as http:
        assert await Imds(http, endpoint=endpoint).text("a") == "b"


async def test_a_host_without_metadata_hears_so_soon(
    http: AwsHttp, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AwsUnavailable, match="no process listens"):
        await Imds(http, endpoint="http://127.0.0.1:1").text("a")

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        raise AssertionError

    monkeypatch.setattr(imds_module, "CALL_S", 0.1)
    began = time.monotonic()
    with pytest.raises(AwsUnavailable, match="no answer"):
        await Imds(http, endpoint=await serve(silent)).text("a")
    assert time.monotonic() - began < 1


async def test_a_large_answer_is_not_read(http: AwsHttp, serve: Serve, instance: Instance) -> None:
    instance.answers = {"a": "x" * (imds_module.ANSWER_BYTES + 1)}
    with pytest.raises(AwsUnavailable, match="larger"):
        await Imds(http, endpoint=await serve(instance.handle)).text("a")


async def test_redirects_are_not_followed(http: AwsHttp, serve: Serve, instance: Instance) -> None:
    instance.answers = {
        "a": web.Response(status=302, headers={"Location": "/latest/b"}),
        "b": "elsewhere",
    }
    with pytest.raises(AwsUnavailable, match="302"):
        await Imds(http, endpoint=await serve(instance.handle)).text("a")
    assert instance.paths == ["a"]
