"""Signatures, checked as the receiver does: from what arrived, by botocore's own computation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import botocore.auth
import pytest
from aiohttp import WSMsgType, web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from agent.aws.clock import AwsClock
from agent.aws.keys import Keys
from agent.aws.signing import Signer, wire_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agent.aws.http import AwsHttp

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # noqa: S105 - the one of the documentation
PLAIN = Keys("AKIDEXAMPLE", SECRET)
SESSION = Keys("ASIAEXAMPLE", SECRET, "IQoJb3JpZ2luX2VjE/+=" * 40)
ODD = {
    "spaces": "DockerVersion: 20.10.24 (a  b)",
    "plus": "a+b",
    "percent": "100%25 %zz",
    "slash/key": "arn:aws:ecs:eu-west-1:1:container-instance/c/0",
    "eq&amp": "a=b&c==",
    "tilde": "~-._",
    "unicode é": "日本 ☃ \U0001f680",
    "empty": "",
    "": "no name",
    "quote'\"": "`<>\\^{}|#?;,!*()[]@$",
    "line\r\nend": "\t\x00\x7f",
    "Upper": "1",
    "upper": "2",
}


class Arrived(NamedTuple):
    """A request as its receiver has it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


def verify(arrived: Arrived, keys: Keys, *, region: str = "eu-west-1", service: str = "ecs") -> str:
    """Fail unless the signature is right; returns the names of the signed headers."""
    scheme, _, rest = arrived.headers["Authorization"].partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    stamp = arrived.headers["X-Amz-Date"]
    assert scheme == "AWS4-HMAC-SHA256"
    scope = f"{keys.access_key}/{stamp[:8]}/{region}/{service}/aws4_request"
    assert parts["Credential"] == scope
    names = parts["SignedHeaders"].split(";")
    assert names == sorted(names)
    assert "host" in names
    assert ("x-amz-security-token" in names) == bool(keys.session_token)
    signed = {name: arrived.headers[name] for name in names}
    path, _, query = arrived.target.partition("?")
    # Once from the query as it was sent, once decoded and encoded anew: receivers do either.
    pairs = decoded(query)
    url = f"http://{arrived.headers['Host']}{path}"
    for request in (
        AWSRequest(arrived.method, f"{url}?{query}", headers=signed, data=arrived.body),
        AWSRequest(arrived.method, url, headers=signed, data=arrived.body, params=pairs),
    ):
        request.context["timestamp"] = stamp
        auth = SigV4Auth(
            ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.session_token or None),
            service,
            region,
        )
        text = auth.string_to_sign(request, auth.canonical_request(request))
        assert auth.signature(text, request) == parts["Signature"]
    return ";".join(names)


def decoded(query: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def signer(now: float = 1_800_000_000.5) -> Signer:
    return Signer("eu-west-1", "ecs", AwsClock(lambda: now))


@pytest.mark.parametrize("keys", [PLAIN, SESSION], ids=["long-lived", "session"])
@pytest.mark.parametrize("body", [b"", b"{}", '{"reason":"é ☃"}'.encode()])
async def test_a_call_arrives_with_a_good_signature(
    keys: Keys, body: bytes, http: AwsHttp, serve: Serve
) -> None:
    seen: list[Arrived] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(
            Arrived(request.method, request.raw_path, request.headers, await request.read())
        )
        return web.Response()

    url = URL(await serve(handler))
    own = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "T.Operation"}
    signed = signer().headers(keys, method="POST", url=url, headers=own, body=body)
    await http.session.post(url, headers={**own, **signed}, data=body)
    names = verify(seen[0], keys)
    assert names.startswith("content-type;host;x-amz-date;")
    assert names.endswith("x-amz-target")
    assert seen[0].body == body


@pytest.mark.parametrize("keys", [PLAIN, SESSION], ids=["long-lived", "session"])
@pytest.mark.parametrize("path", ["", "/", "/acs", "/a b/%7E~/é/"])
async def test_a_websocket_and_its_frames_arrive_with_good_signatures(
    keys: Keys, path: str, http: AwsHttp, serve: Serve
) -> None:
    upgrades: list[Arrived] = []
    frames: list[str] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        upgrades.append(Arrived("GET", request.raw_path, request.headers, b""))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        message = await socket.receive()
        assert message.type is WSMsgType.TEXT
        frames.append(message.data)
        await socket.close()
        return socket

    base = (await serve(handler)).replace("http://", "ws://")
    url = wire_url(f"{base}{path}", ODD)
    body = '{"type":"PublishMetricsRequest","message":{"é":"\\r\\n\\r\\n"}}'.encode()
    async with http.session.ws_connect(url, headers=signer().upgrade(keys, url)) as socket:
        await socket.send_str(signer().frame(keys, url, body).decode())
        await socket.receive()
    upgrade = upgrades[0]
    expected = "host;x-amz-date" + (";x-amz-security-token" if keys.session_token else "")
    assert verify(upgrade, keys) == expected
    assert "+" not in upgrade.target

    block, _, rest = frames[0].partition("\r\n\r\n")
    lines = [line.split(": ", 1) for line in block.split("\r\n")]
    names = ["Authorization", "Host", "X-Amz-Date", "X-Amz-Security-Token"]
    assert [name for name, _ in lines] == names[: len(lines)]
    assert len(lines) == 3 + bool(keys.session_token)
    headers = {name.lower(): value for name, value in lines}
    framed = Arrived(
        "GET",
        upgrade.target,
        {**headers, "Authorization": lines[0][1], "Host": lines[1][1], "X-Amz-Date": lines[2][1]},
        rest.encode(),
    )
    assert verify(framed, keys) == expected
    assert rest.encode() == body
    assert framed.headers["Host"] == upgrade.headers["Host"]


@settings(max_examples=150, deadline=None)
@given(params=st.dictionaries(st.text(max_size=12), st.text(max_size=24), max_size=6))
def test_any_query_is_signed_as_it_is_sent(params: dict[str, str]) -> None:
    url = wire_url("wss://ecs-a-1.eu-west-1.amazonaws.com/ws", params)
    raw = url.raw_path_qs  # what aiohttp puts on the request line
    assert raw.isascii()
    assert not set(raw) & set(' +\r\n"<>')
    headers = {"Host": "ecs-a-1.eu-west-1.amazonaws.com", **signer().upgrade(SESSION, url)}
    verify(Arrived("GET", raw, _caseless(headers), b""), SESSION)
    sent = [(name.encode(errors="replace"), text) for name, text in params.items()]
    expected = {n.decode(): text.encode(errors="replace").decode() for n, text in sent}
    assert decoded(raw.partition("?")[2]) == expected


def _caseless(headers: dict[str, str]) -> dict[str, str]:
    return {**headers, **{name.lower(): value for name, value in headers.items()}}


def test_keys_of_a_query_are_sorted_and_those_of_the_base_stay() -> None:
    url = wire_url("https://host/ws?zone=a%20b&b=0", {"b": "1", "a": "x y"})
    assert str(url) == "https://host/ws?a=x%20y&b=1&zone=a%20b"
    assert str(wire_url("https://host/ws#x", {})) == "https://host/ws"
    assert str(wire_url("https://host/ws", {"a": "\ud800"})) == "https://host/ws?a=%3F"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Host.Example:443/", "host.example"),
        ("wss://host.example:443/ws", "host.example"),
        ("ws://host.example:80/ws", "host.example"),
        ("ws://host.example:8080/ws", "host.example:8080"),
        ("wss://[::1]:8443/ws", "[::1]:8443"),
        ("https://user:pass@host.example/", "host.example"),
    ],
)
def test_the_host_is_signed_as_it_is_sent(url: str, host: str) -> None:
    frame = signer().frame(PLAIN, url, b"{}").decode()
    assert f"\r\nHost: {host}\r\n" in frame
    assert "Host" not in signer().upgrade(PLAIN, url)


def test_the_same_comes_out_as_of_botocore_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2027, 1, 15, 8, tzinfo=UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: moment.replace(tzinfo=None))
    url, body = "https://ecs.eu-west-1.amazonaws.com/", b'{"cluster":"c"}'
    own = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "T.Operation"}
    theirs = AWSRequest("POST", url, headers=own, data=body)
    SigV4Auth(
        ReadOnlyCredentials(SESSION.access_key, SECRET, SESSION.session_token), "ecs", "eu-west-1"
    ).add_auth(theirs)
    ours = signer(moment.timestamp()).headers(
        SESSION, method="POST", url=url, headers=own, body=body
    )
    assert ours.items() <= dict(theirs.headers.items()).items()


def test_the_clock_that_was_corrected_dates_the_signature() -> None:
    clock = AwsClock(lambda: 1_800_000_000.0)
    assert clock.learn("Fri, 15 Jan 2027 09:00:00 GMT")
    headers = Signer("eu-west-1", "ecs", clock).upgrade(PLAIN, "wss://host/ws")
    assert headers["X-Amz-Date"] == "20270115T090000Z"


def test_nothing_of_a_signature_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        signer().upgrade(SESSION, "wss://host/ws")
    assert not caplog.records


async def test_the_check_itself_notices_what_was_changed_on_the_way() -> None:
    url = wire_url("https://host/ws", {"a": "1"})
    headers = _caseless({"Host": "host", **signer().upgrade(SESSION, url)})
    good = Arrived("GET", "/ws?a=1", headers, b"")
    verify(good, SESSION)
    for bad in (
        good._replace(method="POST"),
        good._replace(target="/ws?a=2"),
        good._replace(target="/wss?a=1"),
        good._replace(body=b"x"),
        good._replace(headers={**headers, "host": "other"}),
        good._replace(headers={**headers, "x-amz-security-token": "other"}),
    ):
        with pytest.raises(AssertionError):
            verify(bad, SESSION)
