from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import addresses
from agent.config.addresses import HostPort


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", HostPort("127.0.0.1", 80)),
        ("localhost:0", HostPort("localhost", 0)),
        (":8080", HostPort("127.0.0.1", 8080)),
        ("[::1]:8080", HostPort("::1", 8080)),
        ("[fe80::1%eth0]:65535", HostPort("fe80::1%eth0", 65535)),
    ],
)
def test_places_to_listen(text: str, address: HostPort) -> None:
    assert addresses.parse_listen(text) == address


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no port"),
        ("host", "has no port; write for example 127.0.0.1:6820 or [::1]:6820"),
        ("80", "is only a port; add a host, for example 127.0.0.1:80"),
        ("host:", "has no port after the colon"),
        ("host:http", "has the port 'http', which is not a number"),
        ("host:-5", "has the port '-5', which is not a number"),
        ("127.0.0.1:99999", "has the port 99999, which is too large; the largest is 65535"),
        ("h:65536", "which is too large"),
        ("h:" + "9" * 300, "which is too large"),
        ("::1:80", "an IPv6 address needs brackets; write for example [::1]:6820"),
        ("a b:1", "is not HOST:PORT; write for example"),
        ("http://127.0.0.1:6820", "is a URL; write HOST:PORT alone"),
    ],
)
def test_what_is_none_says_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        addresses.parse_listen(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ftp://host", "is not an http or https URL; write for example http://192.0.2.10:6820"),
        ("http://", "is not an http or https URL"),
        ("http:/host", "is not an http or https URL"),
        ("http://[::1", "is not an http or https URL"),
        ("host:80", "does not begin with http:// or https://; write for example http://host:80"),
        ("127.0.0.1", "write for example http://127.0.0.1"),
        ("http://host:99999", "has the port 99999, which is too large; the largest is 65535"),
        ("http://host:0", "has the port 0, which is not valid; use 1 to 65535"),
        ("http://host:x", "has the port 'x', which is not a number"),
        ("http://a b", "contains a blank"),
        ("http://user:pw@host", "remove them from the URL"),
        ("http://host?x=1", "contains a query or fragment"),
    ],
)
def test_control_endpoints_are_plain_http_urls(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        addresses.parse_url(text)


@pytest.mark.parametrize(
    "text", ["http://h", "https://host:8443/", "http://[::1]:80/x", "http://[::1]"]
)
def test_urls(text: str) -> None:
    assert addresses.parse_url(text) == text.rstrip("/")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("host:99999", "has the port 99999"),
        ("ftp://host", "is not an HTTP proxy"),
        ("http://", "is not a proxy; write for example http://192.0.2.10:3128"),
    ],
)
def test_proxies(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        addresses.parse_proxy(text)
    assert addresses.parse_proxy("u:p@host:3128/") == "http://u:p@host:3128"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("docker.sock", "is not an engine address"),
        ("unix://run/docker.sock", "write three slashes"),
        ("tcp://host:99999", "has the port 99999"),
    ],
)
def test_engines(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        addresses.parse_docker_host(text)
    assert addresses.parse_docker_host("tcp://host:2375") == "tcp://host:2375"


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9:.\[\]/@-]{0,20}", fullmatch=True))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for parse in (
        addresses.parse_listen,
        addresses.parse_url,
        addresses.parse_backend,
        addresses.parse_proxy,
        addresses.parse_docker_host,
    ):
        said = ""
        try:
            parse(text)
        except ValueError as error:
            said = str(error)
        assert "\n" not in said
    try:
        host, port = addresses.parse_listen(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65535
    assert addresses.parse_listen(HostPort(host, port).text()) == (host, port)
