"""The agents' client with tokens and a private authority, against the real control endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from aiohttp import web
from yarl import URL

from agent.errors import ConfigError, ControlUnavailable
from agent.upstream import hello
from agent.upstream.credentials import is_readable_on_the_way
from agent.upstream.longpoll.answers import TokenRefused
from tests.support import certificates
from tests.support.control_endpoint import control_endpoint
from tests.support.control_host import Host, until
from tests.support.fleet import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.state import StateStore
    from tests.support.certificates import Certificates
    from tests.support.control_endpoint import Endpoint
    from tests.support.fake_control import FakeControl

ONE, TWO = "1" * 32, "2" * 32


class Place:
    """Where control is."""

    def __init__(self, tmp_path: Path) -> None:
        self.tokens = put(tmp_path / "tokens", ONE)
        self.data = tmp_path / "control"
        self.port = free_port()
        self.reload = asyncio.Event()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    @contextlib.asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Endpoint]:
        async with control_endpoint(
            self.data,
            token_file=self.tokens,
            agent_listen=(f"127.0.0.1:{self.port}",),
            reload=self.reload,
            **settings,
        ) as endpoint:
            yield endpoint


def put(path: Path, *tokens: str) -> Path:
    path.write_text("".join(f"{token}\n" for token in tokens))
    path.chmod(0o600)
    return path


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def host(store: StateStore, place: Place, tmp_path: Path) -> Host:
    made = Host(store, cast("FakeControl", place))
    made.token_file = tmp_path / "mine"
    return made


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


async def test_the_right_token(place: Place, host: Host, tmp_path: Path) -> None:
    put(tmp_path / "mine", ONE)
    async with place.running(), host.running() as client:
        await until(lambda: host.taken)
        assert client.status.connected
        assert not client.status.error


async def test_a_wrong_one_is_told_and_tried_until_it_is_right(
    place: Place, host: Host, tmp_path: Path
) -> None:
    mine = put(tmp_path / "mine", TWO)
    async with place.running(), host.running() as client:
        await until(lambda: client.status.error)
        assert client.status.error == (
            f"control refused the token in {mine}; use one of those in control's --token-file"
        )
        assert not client.status.connected
        put(mine, ONE)
        await until(lambda: client.status.connected)


async def test_that_control_is_back_shows_before_there_is_news(
    place: Place, host: Host, tmp_path: Path
) -> None:
    host.wait_s = 30.0
    mine = put(tmp_path / "mine", ONE)
    async with place.running() as endpoint, host.running() as client:
        await until(lambda: host.taken)
        arn = client.status.instance_arn
        put(place.tokens, TWO)
        place.reload.set()
        await asyncio.sleep(0.2)
        await endpoint.call(
            "UpdateContainerInstancesState", containerInstances=[arn], status="DRAINING"
        )
        await until(lambda: client.status.error)
        put(mine, TWO)
        await until(lambda: client.status.connected, limit_s=5)
        assert client.status.instance_status == "DRAINING"


async def test_one_that_is_taken_out_ends_a_held_poll_and_shows(
    place: Place, host: Host, tmp_path: Path
) -> None:
    host.wait_s = 30.0
    put(tmp_path / "mine", ONE)
    async with place.running(), host.running() as client:
        await until(lambda: host.taken)
        put(place.tokens, TWO)
        place.reload.set()
        await until(lambda: client.status.error, limit_s=3)
        assert not client.status.connected
        assert client.status.error.startswith("control refused the token in ")
        assert client.status.next_try > 0


async def test_none_where_one_is_asked_for(place: Place, host: Host) -> None:
    host.token_file = None
    async with place.running(), host.running() as client:
        await until(lambda: client.status.error)
        assert client.status.error == (
            "control requires a token; set ECS_CONTROL_TOKEN_FILE, or run 'ecs-agent join'"
        )


@pytest.mark.parametrize("content", [None, "", "tiny", "ö" * 20, "x" * 70_000])
async def test_a_file_of_no_use_is_told_and_read_again(
    place: Place, host: Host, tmp_path: Path, content: str | None
) -> None:
    mine = tmp_path / "mine"
    if content is not None:
        mine.write_text(content)
    async with place.running(), host.running() as client:
        await until(lambda: client.status.error)
        assert client.status.error.startswith(f"ECS_CONTROL_TOKEN_FILE {mine}: ")
        put(mine, ONE)
        await until(lambda: client.status.connected)


async def test_a_change_of_tokens_is_not_noticed(place: Place, host: Host, tmp_path: Path) -> None:
    mine = put(tmp_path / "mine", ONE)
    async with place.running(), host.running() as client:
        await until(lambda: host.taken)
        with structlog.testing.capture_logs() as logs:
            put(mine, TWO)
            put(place.tokens, TWO)
            place.reload.set()
            since = client.status.since
            await until(lambda: any(log["event"] == "token file loaded" for log in logs))
            await asyncio.sleep(1.2)  # the next two polls
        assert client.status.connected
        assert (client.status.since, client.status.generation) == (since, 1)
        assert not [log for log in logs if log["event"] == "control unavailable"]
        assert ONE not in str(logs)
        assert TWO not in str(logs)


async def test_a_redirect_is_not_followed_with_the_token(
    host: Host, place: Place, tmp_path: Path
) -> None:
    put(tmp_path / "mine", ONE)
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.path)
        if request.path == "/stolen":
            return web.Response()
        raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{place.port}/stolen")

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", place.port).start()
    async with host.running() as client:
        await until(lambda: client.status.error)
        assert "307" in client.status.error
    await runner.cleanup()
    assert set(seen) == {"/v1/instances"}


async def test_a_user_in_the_url_is_not_sent(place: Place, host: Host, tmp_path: Path) -> None:
    put(tmp_path / "mine", ONE)
    url = place.url.replace("//", "//user:secret@")
    host.control = cast("FakeControl", type("There", (), {"url": url})())
    async with place.running(), host.running() as client:
        await until(lambda: client.status.connected)


async def test_a_private_authority(
    place: Place, host: Host, tmp_path: Path, signed: Certificates
) -> None:
    put(tmp_path / "mine", ONE)
    place.scheme = "https"
    tls = {"tls_certificate": signed.certificate, "tls_key": signed.key}
    async with place.running(**tls) as endpoint:
        await endpoint.call("ListClusters")  # plain, on the loopback
        async with host.running() as client:
            await until(lambda: client.status.error)
            assert "is not trusted" in client.status.error
            assert "set ECS_CONTROL_CA_FILE" in client.status.error
        host.ca_file = signed.ca
        async with host.running() as client:
            await until(lambda: client.status.connected)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_an_authority_of_no_use_ends_the_start(
    host: Host, tmp_path: Path, content: str | None
) -> None:
    host.ca_file = tmp_path / "ca.pem"
    if content is not None:
        host.ca_file.write_text(content)
    with pytest.raises(ConfigError, match=r"ECS_CONTROL_CA_FILE .*ca\.pem: "):
        await host.client()


async def test_hello_in_the_words_of_each_trouble(
    place: Place, tmp_path: Path, signed: Certificates
) -> None:
    nobody = f"localhost:{free_port()}"
    with pytest.raises(ControlUnavailable, match=f"no process listens on {nobody}"):
        await hello.meet(f"http://{nobody}")
    with pytest.raises(ControlUnavailable, match=r"the name control\.invalid does not resolve"):
        await hello.meet("http://control.invalid:1")
    async with place.running() as endpoint:
        with pytest.raises(TokenRefused, match="control requires a token"):
            await hello.meet(place.url)
        with pytest.raises(TokenRefused, match="control refused the token;"):
            await hello.meet(place.url, token=TWO)
        with pytest.raises(ControlUnavailable, match="does not speak TLS; use http://"):
            await hello.meet(place.url.replace("http", "https"))
        met = await hello.meet(place.url, token=ONE, cluster="nope")
        assert met.ahead_s is not None
        assert abs(met.ahead_s) < 2
        assert met.hello.takes_cluster is False
        with pytest.raises(
            ControlUnavailable, match=r"answered 404.* this is not a control endpoint"
        ):
            await hello.meet(f"{endpoint.url}/elsewhere")
    tls = {"tls_certificate": signed.certificate, "tls_key": signed.key}
    place.scheme = "https"
    async with place.running(**tls):
        with pytest.raises(ControlUnavailable, match="is not trusted"):
            await hello.meet(place.url, token=ONE)
        other = place.url.replace("localhost", "127.0.0.2")
        with pytest.raises(ControlUnavailable, match="no process listens"):
            await hello.meet(other, token=ONE, ca_file=signed.ca)
        for file in (signed.ca, signed.certificate):
            assert (await hello.meet(place.url, token=ONE, ca_file=file)).hello.version


async def test_a_certificate_for_another_name(place: Place, tmp_path: Path) -> None:
    wrong = certificates.make(tmp_path / "wrong", names="DNS:elsewhere.example")
    place.scheme = "https"
    tls = {"tls_certificate": wrong.certificate, "tls_key": wrong.key}
    async with place.running(**tls):
        with pytest.raises(ControlUnavailable, match="is for another name"):
            await hello.meet(place.url, token=ONE, ca_file=wrong.ca)


@pytest.mark.parametrize(
    ("date", "ahead_s"),
    [
        ("Thu, 01 Jan 1970 00:01:40 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:01:39 GMT", 0.4),
        ("Thu, 01 Jan 1970 00:00:40 GMT", 59.4),
        ("Thu, 01 Jan 1970 00:02:40 GMT", -59.5),
        ("", None),
        ("nonsense", None),
    ],
)
def test_how_far_the_clock_is_ahead(date: str, ahead_s: float | None) -> None:
    assert hello.ahead_s(date, 100.4, 100.5) == pytest.approx(ahead_s)


@pytest.mark.parametrize(
    ("url", "readable"),
    [
        ("http://127.0.0.1:1", False),
        ("http://[::1]:1", False),
        ("http://localhost:1", False),
        ("https://control:1", False),
        ("http://control:1", True),
        ("http://192.0.2.1", True),
    ],
)
def test_what_can_be_read_on_the_way(url: str, readable: bool) -> None:
    assert is_readable_on_the_way(URL(url)) is readable


def test_the_context_trusts_the_system_as_well(signed: Certificates) -> None:
    from agent.upstream.credentials import trusting  # noqa: PLC0415

    system = ssl.create_default_context().cert_store_stats()["x509_ca"]
    assert trusting(signed.ca).cert_store_stats()["x509_ca"] == system + 1


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(4096):
            writer.write(part)
    writer.close()


@pytest.mark.parametrize("says_so", [False, True])
async def test_a_server_of_tls_that_is_asked_in_plain_is_told(
    says_so: bool, host: Host, place: Place, signed: Certificates
) -> None:
    """Some servers of TLS hang up on plain HTTP, others say what is wrong in words of their own."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(signed.certificate, signed.key)
    behind = await asyncio.start_server(_pump, "127.0.0.1", 0, ssl=context)
    port = behind.sockets[0].getsockname()[1]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == b"\x16":  # what TLS begins with
            theirs, ours = await asyncio.open_connection("127.0.0.1", port)
            ours.write(first)
            await asyncio.gather(_pump(reader, ours), _pump(theirs, writer))
        elif says_so:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\nTLS!\r\n")
        writer.close()

    host.token_file = None
    front = await asyncio.start_server(serve, "127.0.0.1", place.port)
    async with behind, front, host.running() as client:
        await until(lambda: client.status.error)
        assert client.status.error.endswith(
            f"localhost:{place.port} speaks TLS; use https:// in the URL"
        )
