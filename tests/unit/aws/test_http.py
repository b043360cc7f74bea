from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from agent.aws.http import AwsHttp, Proxies, _trust, read_body, worded
from agent.errors import AwsUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]
    ServeRaw = Callable[[Callable[[int], bytes]], Awaitable[str]]

ECS = "https://ecs.eu-west-1.amazonaws.com/"


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://host/", "http://plain:3128"),
        ("ws://host/", "http://plain:3128"),
        (ECS, "http://secure:3129"),
        ("wss://host/ws", "http://secure:3129"),
        ("http://169.254.169.254/latest", None),
        ("http://169.254.170.2/creds", None),
        ("http://127.0.0.1:8080/", None),
        ("http://127.9.9.9/", None),
        ("http://[::1]/", None),
        ("http://localhost:1/", None),
        ("ftp://host/", None),
    ],
)
def test_which_proxy_a_url_takes(url: str, proxy: str | None) -> None:
    proxies = Proxies(http="plain:3128", https="http://secure:3129")
    assert proxies.of(url) == (None if proxy is None else URL(proxy))


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("*", ECS, True),
        ("amazonaws.com", ECS, True),
        (".amazonaws.com", ECS, True),
        ("*.amazonaws.com", ECS, True),
        ("AMAZONAWS.com", ECS, True),
        ("ecs.eu-west-1.amazonaws.com", ECS, True),
        ("ecs.eu-west-1.amazonaws.com:443", ECS, True),
        ("ecs.eu-west-1.amazonaws.com:8443", ECS, False),
        ("azonaws.com", ECS, False),
        ("other.example, amazonaws.com ", ECS, True),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.1.2.3", "https://10.1.2.3:8443/", True),
        ("10.1.2.3:8443", "https://10.1.2.3:8443/", True),
        ("10.1.2.3:1", "https://10.1.2.3:8443/", False),
        ("fd00::/8", "https://[fd00::1]/", True),
        ("[fd00::1]:8443", "https://[fd00::1]:8443/", True),
        ("example.com", "https://169.254.169.254/", False),
        (",,", ECS, False),
    ],
)
def test_what_needs_no_proxy(no_proxy: str, url: str, direct: bool) -> None:
    proxies = Proxies(https="proxy:3128", no_proxy=no_proxy)
    assert (proxies.of(url) is None) == direct


def test_without_proxies_there_are_none() -> None:
    assert Proxies().of(ECS) is None
    assert Proxies(http="proxy:1").of(ECS) is None


def test_the_text_of_proxies_shows_no_password() -> None:
    proxies = Proxies(https="http://user:secret@proxy:3128")
    assert "secret" not in repr(proxies)
    assert proxies.of(ECS) == URL("http://user:secret@proxy:3128")


@pytest.mark.parametrize("bad", ["socks5://host:1", "http://", "http://[", "http://host:99999"])
def test_a_proxy_that_is_none_names_its_variable(bad: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        Proxies(https=bad)


@given(st.text(max_size=30), st.text(alphabet="abc.:/[]*0129", max_size=30))
def test_no_list_of_exceptions_breaks_it(odd: str, no_proxy: str) -> None:
    for text in (odd, no_proxy):
        Proxies(https="proxy:1", no_proxy=text).of(ECS)


async def test_calls_go_through_the_proxy_with_its_password(serve: Serve) -> None:
    seen: list[tuple[str, str | None]] = []

    async def proxy(request: web.Request) -> web.Response:
        seen.append((str(request.url), request.headers.get("Proxy-Authorization")))
        return web.Response(text="by proxy")

    address = (await serve(proxy)).removeprefix("http://")
    async with AwsHttp(Proxies(http=f"user:secret@{address}")) as http:
        url = "http://ecs.test/path?a=b"
        async with http.session.get(url, proxy=http.proxy_for(url)) as answer:
            assert await answer.text() == "by proxy"
    assert seen == [(url, "Basic dXNlcjpzZWNyZXQ=")]


async def test_a_proxy_that_refuses_is_told_without_its_password(serve_raw: ServeRaw) -> None:
    url = await serve_raw(lambda _: b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
    async with AwsHttp(Proxies(https=f"user:secret@{URL(url).authority}")) as http:
        with pytest.raises(aiohttp.ClientError) as caught:
            await http.session.get(ECS, proxy=http.proxy_for(ECS))
    assert worded(caught.value) == "the proxy answered 407; check HTTPS_PROXY"


async def test_a_proxy_that_is_away_is_named() -> None:
    async with AwsHttp(Proxies(https="user:secret@127.0.0.1:1")) as http:
        with pytest.raises(aiohttp.ClientError) as caught:
            await http.session.get(ECS, proxy=http.proxy_for(ECS))
    assert worded(caught.value) == "the proxy 127.0.0.1:1 cannot be reached; check HTTPS_PROXY"


async def test_the_session_says_who_it_is_and_keeps_no_cookies(serve: Serve) -> None:
    agents: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        agents.append(request.headers["User-Agent"])
        assert "Cookie" not in request.headers
        answer = web.Response()
        answer.set_cookie("a", "b")
        return answer

    url = await serve(handler)
    async with AwsHttp(os_detail="debian_12\n(x)") as http:
        await http.session.get(url)
        await http.session.get(url)
    assert agents[0].startswith("ecs-host-agent - v")
    assert agents[0].endswith("(linux; debian_12x)")


def test_trusts_nothing_below_tls_12(tmp_path: Path) -> None:
    assert _trust(None).minimum_version is ssl.TLSVersion.TLSv1_2
    for file in (tmp_path / "missing.pem", tmp_path):
        with pytest.raises(ConfigError, match="PEM"):
            _trust(file)


async def test_an_answer_is_read_up_to_its_limit(http: AwsHttp, serve: Serve) -> None:
    async def handler(_: web.Request) -> web.Response:
        answer = web.Response(body=b"x" * 5_000_000)
        answer.enable_compression(web.ContentCoding.gzip)
        return answer

    async with http.session.get(await serve(handler)) as response:
        with pytest.raises(AwsUnavailable, match="larger than 1000 bytes"):
            await read_body(response, 1000, "Call")


async def test_what_went_wrong_is_one_line(http: AwsHttp) -> None:
    with pytest.raises(aiohttp.ClientError) as caught:
        await http.session.get("http://127.0.0.1:1/")
    assert worded(caught.value) == "no process listens on 127.0.0.1:1"
    assert worded(asyncio.IncompleteReadError(b"", 1))
    assert worded(OSError()) == "OSError"
