"""Calls against real servers on the loopback that do what AWS, and what nobody, should do."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiohttp import web
from yarl import URL

from agent.aws import exchange
from agent.aws.api import JsonApi
from agent.aws.clock import AwsClock
from agent.aws.credentials import CredentialChain
from agent.aws.http import AwsHttp, Proxies
from agent.aws.keys import Keys
from agent.aws.query import EC2_VERSION, QueryApi
from agent.aws.signing import Signer
from agent.errors import AwsFailure, AwsRefused, AwsUnavailable, CredentialsMissing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]
    ServeRaw = Callable[[Callable[[int], bytes]], Awaitable[str]]

FIRST = Keys("ASIA1", "secret-1", "token-1")
SECOND = Keys("ASIA2", "secret-2", "token-2")


class Turning:
    """A place whose keys change when they are read again."""

    name = "a test"
    paths: tuple[Path, ...] = ()

    def __init__(self, *keys: Keys) -> None:
        self.keys = list(keys)

    async def load(self) -> Keys | None:
        if not self.keys:
            return None
        return self.keys.pop(0) if len(self.keys) > 1 else self.keys[0]


class Answers:
    """A service that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: tuple[int, Any] | tuple[int, Any, dict[str, str]]) -> None:
        self.answers = list(answers)
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.read())
        status, body, *more = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=content, headers=more[0] if more else None)


def api_of(
    http: AwsHttp, url: str, *keys: Keys, clock: AwsClock | None = None, first_wait_s: float = 0.001
) -> JsonApi:
    clock = clock or AwsClock()
    chain = CredentialChain([Turning(*(keys or (FIRST,)))], clock)
    return JsonApi(
        http, chain, Signer("eu-west-1", "ecs", clock), URL(url), first_wait_s=first_wait_s
    )


async def test_a_call_as_amazon_sees_it(http: AwsHttp, serve: Serve) -> None:
    service = Answers((200, {"endpoint": "https://ecs-a-1"}))
    api = api_of(http, await serve(service.handle))
    answer = await api.call("DiscoverPollEndpoint", {"cluster": "é", "zoneId": ""})
    assert answer == {"endpoint": "https://ecs-a-1"}
    request = service.requests[0]
    assert (request.method, request.raw_path) == ("POST", "/")
    assert request.headers["Content-Type"] == "application/x-amz-json-1.1"
    target = "AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint"
    assert request.headers["X-Amz-Target"] == target
    assert request.headers["X-Amz-Security-Token"] == "token-1"
    assert json.loads(service.bodies[0]) == {"cluster": "é", "zoneId": ""}


async def test_text_that_is_none_is_sent_as_well_as_it_can_be(http: AwsHttp, serve: Serve) -> None:
    service = Answers((200, {}))
    api = api_of(http, await serve(service.handle))
    await api.call("Op", {"containers": [{"reason": "a\udcff", "exitCode": 1, "gone": None}]})
    assert json.loads(service.bodies[0]) == {
        "containers": [{"reason": "a?", "exitCode": 1, "gone": None}]
    }


THROTTLED = (400, {"__type": "ThrottlingException", "message": "slow down"})


@pytest.mark.parametrize(
    "trouble",
    [
        THROTTLED,
        (500, {"__type": "ServerException", "message": "x"}),
        (503, b"<html><body>Service Unavailable</body></html>"),
        (200, b"<html>not AWS</html>"),
        (200, b"[]"),
        (200, b"[" * 100_000),
        (200, b'{"a": NaN}'),
        (200, b"\xff"),
        (302, b"", {"Location": "http://127.0.0.1:1/"}),
        (407, b""),
        (200, b"not gzip", {"Content-Encoding": "gzip"}),
    ],
    ids=lambda trouble: f"{trouble[0]} {str(trouble[1])[:20]}",
)
async def test_trouble_that_passes_is_sat_out(trouble: Any, http: AwsHttp, serve: Serve) -> None:
    service = Answers(trouble, trouble, (200, {"ok": 1}))
    api = api_of(http, await serve(service.handle))
    assert await api.call("Op", {}) == {"ok": 1}
    service.answers, service.requests = [trouble], []
    with pytest.raises(AwsUnavailable, match=r"^Op: "):
        await api.call("Op", {})
    assert len(service.requests) == 3
    with pytest.raises(AwsUnavailable) as caught:
        await api.call("Op", {}, attempts=1)
    assert len(service.requests) == 4
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


async def test_a_verdict_is_final(http: AwsHttp, serve: Serve) -> None:
    service = Answers((400, {"__type": "a#InvalidParameterException", "message": "Cluster\nx"}))
    api = api_of(http, await serve(service.handle))
    with pytest.raises(AwsRefused) as caught:
        await api.call("SubmitTaskStateChange", {})
    assert caught.value.code == "InvalidParameterException"
    assert str(caught.value) == "SubmitTaskStateChange: InvalidParameterException: Cluster x"
    assert len(service.requests) == 1


async def test_an_answer_without_a_body_has_no_fields(http: AwsHttp, serve: Serve) -> None:
    assert await api_of(http, await serve(Answers((200, b"")).handle)).call("Op", {}) == {}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\n"
        + gzip.compress(b"{}" * 50)[:12],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
    ],
    ids=["nothing", "half", "chunk", "gzip", "ssh", "headers", "length", "tls"],
)
async def test_half_an_answer_is_none(answer: bytes, http: AwsHttp, serve_raw: ServeRaw) -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    url = await serve_raw(lambda number: answer if number < 2 else good)
    assert await api_of(http, url).call("Op", {}) == {}
    with pytest.raises(AwsUnavailable):
        await api_of(http, await serve_raw(lambda _: answer)).call("Op", {}, attempts=1)


async def test_a_connection_that_was_idle_for_too_long_costs_nothing(
    http: AwsHttp, serve_raw: ServeRaw
) -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    url = await serve_raw(lambda number: good if number == 2 else b"")
    assert await api_of(http, url).call("Op", {}, attempts=1) == {}
    with pytest.raises(AwsUnavailable, match="closed without an answer"):
        await api_of(http, url).call("Op", {}, attempts=1)


async def test_nobody_there(http: AwsHttp) -> None:
    with pytest.raises(AwsUnavailable, match="no process listens"):
        await api_of(http, "http://127.0.0.1:1").call("Op", {})


async def test_a_slow_answer_ends_at_the_limit(http: AwsHttp, serve: Serve) -> None:
    drips = 0

    async def drip(request: web.Request) -> web.StreamResponse:
        nonlocal drips
        answer = web.StreamResponse()
        await answer.prepare(request)
        while drips < 100:
            drips += 1
            await answer.write(b" ")
            await asyncio.sleep(0.02)
        return answer

    began = time.monotonic()
    with pytest.raises(AwsUnavailable, match=r"no answer within 0\.1 s"):
        await api_of(http, await serve(drip)).call("Op", {}, attempts=2, limit_s=0.1)
    assert 0.2 <= time.monotonic() - began < 1.5


async def test_an_endless_answer_is_cut(
    http: AwsHttp, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "ANSWER_BYTES", 100_000)
    bomb = (200, gzip.compress(b'{"a":"' + b" " * 20_000_000), {"Content-Encoding": "gzip"})
    url = await serve(Answers(bomb).handle)
    with pytest.raises(AwsUnavailable, match="larger than 100000 bytes"):
        await api_of(http, url).call("Op", {}, attempts=1)


@pytest.mark.parametrize("off_s", [-3600, 3600])
@pytest.mark.parametrize(
    "code", ["InvalidSignatureException", "RequestTimeTooSkewed", "SignatureDoesNotMatch"]
)
async def test_a_wrong_clock_is_corrected_and_the_call_made_again(
    off_s: int, code: str, http: AwsHttp, serve: Serve
) -> None:
    stamps: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        stamps.append(request.headers["X-Amz-Date"])
        told = time.strptime(stamps[-1], "%Y%m%dT%H%M%SZ")
        off = abs(time.mktime(told) - time.timezone - (time.time() + off_s))
        date = {"Date": formatdate(time.time() + off_s, usegmt=True)}
        if off > 300:
            body = {"__type": code, "message": "Signature expired: ... is now earlier than ..."}
            return web.json_response(body, status=403, headers=date)
        return web.json_response({"ok": 1}, headers=date)

    clock = AwsClock()
    api = api_of(http, await serve(handle), clock=clock)
    assert await api.call("Op", {}, attempts=1) == {"ok": 1}
    assert clock.skew_s == pytest.approx(off_s, abs=3)
    assert await api.call("Op", {}, attempts=1) == {"ok": 1}
    assert len(stamps) == 3


async def test_a_time_that_is_refused_whatever_it_is_ends(http: AwsHttp, serve: Serve) -> None:
    count = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        date = {"Date": formatdate(time.time() + count * 1000, usegmt=True)}
        body = {"__type": "RequestTimeTooSkewed", "message": "no"}
        return web.json_response(body, status=403, headers=date)

    with pytest.raises(AwsRefused) as caught:
        await api_of(http, await serve(handle)).call("Op", {})
    assert caught.value.code == "RequestTimeTooSkewed"
    assert count == 2


@pytest.mark.parametrize(
    "code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"]
)
async def test_expired_keys_are_read_anew_and_the_call_made_again(
    code: str, http: AwsHttp, serve: Serve
) -> None:
    seen: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request.headers["X-Amz-Security-Token"])
        if seen[-1] == "token-1":
            return web.json_response({"__type": code, "message": "expired"}, status=400)
        return web.json_response({"ok": 1})

    api = api_of(http, await serve(handle), FIRST, SECOND)
    assert await api.call("Op", {}, attempts=1) == {"ok": 1}
    assert seen == ["token-1", "token-2"]


async def test_the_same_keys_are_not_tried_twice(http: AwsHttp, serve: Serve) -> None:
    service = Answers((400, {"__type": "ExpiredTokenException", "message": "expired"}))
    api = api_of(http, await serve(service.handle), FIRST)
    with pytest.raises(AwsRefused) as caught:
        await api.call("Op", {})
    assert caught.value.code == "ExpiredTokenException"
    assert len(service.requests) == 1


async def test_without_keys_nothing_is_sent(http: AwsHttp, serve: Serve) -> None:
    service = Answers((200, {}))
    clock = AwsClock()
    place = Turning()
    api = JsonApi(
        http,
        CredentialChain([place], clock),
        Signer("eu-west-1", "ecs", clock),
        URL(await serve(service.handle)),
    )
    with pytest.raises(CredentialsMissing, match="a test"):
        await api.call("Op", {})
    assert not service.requests


async def test_secrets_stay_out_of_errors_and_logs(
    http: AwsHttp, serve: Serve, serve_raw: ServeRaw
) -> None:
    echo = {
        "__type": "InvalidSignatureException",
        "message": "token-1 secret-1. The Canonical String for this request should have been "
        "'POST x-amz-security-token:token-1'",
    }
    with structlog.testing.capture_logs() as logs:
        for url in (
            await serve(Answers((403, echo)).handle),
            await serve(Answers((403, {"__type": "token-1"})).handle),
            await serve_raw(lambda _: b"HTTP/1.1 secret-1 token-1\r\n\r\n"),
            await serve_raw(lambda _: b"HTTP/1.1 200 OK\r\ntoken-1\x00: secret-1\r\n\r\n"),
        ):
            with pytest.raises(AwsFailure) as caught:
                await api_of(http, url).call("Op", {}, attempts=1)
            for text in (str(caught.value), repr(caught.value), repr(vars(caught.value))):
                assert "token-1" not in text
                assert "secret-1" not in text
    assert "token-1" not in repr(logs)


async def test_waits_grow_to_their_limit_and_heed_retry_after(
    http: AwsHttp, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("agent.aws.exchange.asyncio.sleep", sleep)
    service = Answers(THROTTLED)
    api = api_of(http, await serve(service.handle), first_wait_s=1.0)
    with pytest.raises(AwsUnavailable):
        await api.call("Op", {}, attempts=12)
    assert len(waits) == 11
    assert all(wait <= min(2.0**number, 20) for number, wait in enumerate(waits))
    service.answers = [(*THROTTLED, {"Retry-After": "7"})]
    waits.clear()
    with pytest.raises(AwsUnavailable) as caught:
        await api.call("Op", {}, attempts=2)
    assert 7 <= waits[0] < 8
    assert caught.value.retry_after_s == 7
    assert caught.value.code == "ThrottlingException"


async def test_calls_go_through_the_proxy(serve: Serve) -> None:
    seen: list[str] = []

    async def proxy(request: web.Request) -> web.Response:
        seen.append(str(request.url))
        assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
        return web.json_response({})

    address = (await serve(proxy)).removeprefix("http://")
    async with AwsHttp(Proxies(http=address)) as http:
        await api_of(http, "http://ecs.test:8080").call("Op", {})
    assert seen == ["http://ecs.test:8080/"]


async def test_a_cancelled_call_is_cancelled(http: AwsHttp, serve: Serve) -> None:
    reached = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        reached.set()
        await asyncio.sleep(5)
        raise AssertionError

    call = asyncio.create_task(api_of(http, await serve(hang)).call("Op", {}))
    await reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


# --- the query API of EC2 ---------------------------------------------------------------------

TAGS = b"""<?xml version="1.0" encoding="UTF-8"?>
<DescribeTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <tagSet><item><key>Name</key><value>a &amp; b \xc3\xa9</value></item></tagSet>
</DescribeTagsResponse>"""


def ec2_of(http: AwsHttp, url: str) -> QueryApi:
    clock = AwsClock()
    chain = CredentialChain([Turning(FIRST)], clock)
    signer = Signer("eu-west-1", "ec2", clock)
    return QueryApi(http, chain, signer, URL(url), EC2_VERSION, first_wait_s=0.001)


async def test_a_query_as_ec2_sees_it(http: AwsHttp, serve: Serve) -> None:
    service = Answers((200, TAGS))
    root = await ec2_of(http, await serve(service.handle)).query(
        "DescribeTags", {"Filter.1.Name": "resource-id", "Filter.1.Value.1": "i-1 &é"}
    )
    assert [(i.findtext("key"), i.findtext("value")) for i in root.iterfind("tagSet/item")] == [
        ("Name", "a & b é")
    ]
    assert service.bodies[0] == (
        b"Action=DescribeTags&Version=2016-11-15&Filter.1.Name=resource-id"
        b"&Filter.1.Value.1=i-1+%26%C3%A9"
    )


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE a [<!ENTITY x "xxxx">]><a>&x;</a>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a []><a/>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="UTF-7"?>+ADw-a/>',
        b"<a>&undefined;</a>",
        b"<a><b></a>",
        b"",
        b"{}",
        b"<a>" * 100_000,
    ],
)
async def test_xml_that_must_not_or_cannot_be_read(
    body: bytes, http: AwsHttp, serve: Serve
) -> None:
    with pytest.raises(AwsUnavailable, match="the answer"):
        await ec2_of(http, await serve(Answers((200, body)).handle)).query("A", {}, attempts=1)


async def test_deep_xml_harms_nobody(http: AwsHttp, serve: Serve) -> None:
    body = b"<a>" * 50_000 + b"</a>" * 50_000
    root = await ec2_of(http, await serve(Answers((200, body)).handle)).query("A", {}, attempts=1)
    assert root.find("tagSet/item") is None


async def test_ec2_refuses_in_its_own_way(http: AwsHttp, serve: Serve) -> None:
    refusal = (
        b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message>"
        b"</Error></Errors></Response>"
    )
    service = Answers((403, refusal))
    with pytest.raises(AwsRefused) as caught:
        await ec2_of(http, await serve(service.handle)).query("DescribeTags", {})
    assert caught.value.code == "UnauthorizedOperation"
    service.answers = [(503, b"<html>down</html>"), (200, TAGS)]
    await ec2_of(http, await serve(service.handle)).query("DescribeTags", {})
