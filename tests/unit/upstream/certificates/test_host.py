"""A host's certificate, from the first registration on, against a real control endpoint with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import msgspec
import pytest
import structlog
from yarl import URL

from agent.controlplane.agents import incumbents
from agent.controlplane.pki.authority import Authority
from agent.errors import ConfigError, ControlUnavailable, StaleGeneration
from agent.model.wire import CONTROL_NAME
from agent.state import StateStore
from agent.upstream import hello
from agent.upstream.certificates import host as host_module
from agent.upstream.certificates import introduction, key_pair
from agent.upstream.certificates import trust as trust_module
from agent.upstream.certificates.files import Identity, IdentityFiles
from agent.upstream.certificates.trust import MARK
from agent.upstream.longpoll.exchange import parse_endpoint
from tests.support import certificates
from tests.support.control_endpoint import a_report, control_endpoint, definition
from tests.support.control_host import Host, until
from tests.support.fleet import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint
    from tests.support.fake_control import FakeControl

TOKEN = "t" * 32
LATE_S = 30.0


class Place:
    """Where control is, with TLS by its own authority."""

    def __init__(self, tmp_path: Path) -> None:
        self.data = tmp_path / "control"
        self.port = free_port()
        self.reload = asyncio.Event()
        self.tokens = tmp_path / "tokens"
        self.write_tokens(TOKEN)
        self.url = f"https://127.0.0.1:{self.port}"

    def write_tokens(self, *tokens: str) -> None:
        self.tokens.write_text("".join(f"{token}\n" for token in tokens))
        self.tokens.chmod(0o600)

    @contextlib.asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[Endpoint]:
        told = {"tls_own": True, "token_file": self.tokens, "reload": self.reload} | settings
        async with control_endpoint(
            self.data, agent_listen=(f"127.0.0.1:{self.port}",), **told
        ) as endpoint:
            yield endpoint

    async def authority(self) -> Authority:
        found = await asyncio.to_thread(Authority.load, self.data / "pki")
        assert found is not None
        return found

    async def pki(self, endpoint: Endpoint, call: str = "", **asked: Any) -> dict[str, Any]:
        async with endpoint.session.post(f"{endpoint.url}/control/pki{call}", json=asked) as answer:
            told: dict[str, Any] = await answer.json()
            assert answer.status == 200, told
            return told


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
async def host(store: StateStore, place: Place, tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(store, cast("FakeControl", place))
    made.token_file = tmp_path / "mine"
    made.token_file.write_text(f"{TOKEN}\n")
    made.ca_file = tmp_path / "ca.pem"
    made.data_dir = tmp_path
    made.call_s = 10.0
    yield made
    await made.close()


async def trust(place: Place, host: Host) -> None:
    """Have a host trust control as ``join`` does."""
    fingerprint = (await place.authority()).fingerprint
    found = await introduction.authority_of(URL(place.url), fingerprint)
    assert found.startswith(MARK)
    assert host.ca_file is not None
    host.ca_file.write_bytes(found)


async def identity(tmp_path: Path, place: Place) -> Identity:
    found = await asyncio.to_thread(IdentityFiles(tmp_path).load, str(parse_endpoint(place.url)))
    assert found is not None
    return found


async def shown(endpoint: Endpoint, arn: str) -> str | None:
    answer = await endpoint.call("DescribeContainerInstances", containerInstances=[arn])
    values = {a["name"]: a.get("value") for a in answer["containerInstances"][0]["attributes"]}
    return values.get("ecs-host-agent.identity")


async def test_a_host_gets_a_certificate_and_needs_no_token_any_more(
    place: Place, host: Host, tmp_path: Path
) -> None:
    async with place.running() as endpoint:
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            arn = client.status.instance_arn
            assert await shown(endpoint, arn) == "certificate"
            (told,) = (await place.pki(endpoint))["hosts"]
            assert (told["instanceArn"], told["hostname"]) == (arn, os.uname().nodename)
            assert told["id"] == (await identity(tmp_path, place)).id
        files = IdentityFiles(tmp_path)
        assert files.directory.stat().st_mode & 0o777 == 0o700
        assert all(one.stat().st_mode & 0o077 == 0 for one in files.directory.iterdir())
        # Neither the token of the file counts any more, nor is it there.
        place.write_tokens("another-token-of-the-fleet")
        place.reload.set()
        assert host.token_file is not None
        host.token_file.unlink()
        host.taken.clear()
        met = await hello.meet(
            place.url, ca_file=host.ca_file, data_dir=tmp_path
        )  # the doctor's way
        assert met.hello.control_id
        async with host.running() as client:
            await until(lambda: client.status.connected and host.taken, LATE_S)
            assert client.status.instance_arn == arn
            await endpoint.call("RegisterTaskDefinition", **definition())
            answer = await endpoint.call("RunTask", taskDefinition="web")
            task = answer["tasks"][0]["taskArn"]
            await until(lambda: task in host.arns(), LATE_S)
            await host.report(a_report(task, "RUNNING"))
            await until(lambda: not client.status.unsent, LATE_S)
        assert (await endpoint.task(task))["lastStatus"] == "RUNNING"


async def test_a_host_gets_one_where_an_operator_gave_the_certificate_of_control(
    place: Place, host: Host, tmp_path: Path
) -> None:
    made = await asyncio.to_thread(certificates.make, tmp_path / "operator")
    host.ca_file = made.ca
    given = {"tls_own": False, "tls_certificate": made.certificate, "tls_key": made.key}
    async with place.running(**given) as endpoint:
        for _ in range(2):
            host.taken.clear()
            async with host.running() as client:
                await until(lambda: client.status.connected and host.taken, LATE_S)
                assert await shown(endpoint, client.status.instance_arn) == "certificate"
        assert (await identity(tmp_path, place)).control_name == ""


async def test_a_bound_host_is_not_spoken_for_by_token_and_key_alone(
    place: Place, host: Host, tmp_path: Path
) -> None:
    async with place.running() as endpoint:
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            arn, generation = client.status.instance_arn, client.status.generation
        key = await host.store.get_meta("hostKey")
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "X-Ecs-Generation": str(generation),
            "X-Ecs-Host-Key": str(key),
        }
        path = f"v1/instances/{arn.rsplit('/', 1)[1]}/assignments?after=0"
        context = ssl.create_default_context(cafile=host.ca_file)
        async with endpoint.session.get(
            f"{place.url}/{path}", headers=headers, ssl=context, server_hostname=CONTROL_NAME
        ) as answer:
            assert answer.status == 404
            assert "does not come from the host" in await answer.text()


def _has(host: Host, task: str) -> bool:
    return task in host.arns()


async def test_rotation_under_load_drops_nothing(
    place: Place, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_s = [0.0]
    real = time.time
    monkeypatch.setattr(host_module, "time", SimpleNamespace(time=lambda: real() + ahead_s[0]))
    monkeypatch.setattr(host_module, "LOOK_S", 0.05)
    renewed_in: set[int] = set()
    take_renewed = trust_module.take_renewed

    def take(context: ssl.SSLContext, files: IdentityFiles) -> None:
        renewed_in.add(threading.get_ident())
        take_renewed(context, files)

    monkeypatch.setattr(trust_module, "take_renewed", take)
    host.wait_s = 20.0
    async with place.running() as endpoint:
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            await endpoint.call("RegisterTaskDefinition", **definition())
            (before,) = (await place.pki(endpoint))["hosts"]
            reported: list[str] = []
            ahead_s[0] = 21 * 86_400.0  # two thirds of its life have passed for the host
            now = before
            while len(reported) < 60 or now["serial"] == before["serial"]:
                # It renews again and again, since its clock stays ahead.
                answer = await endpoint.call("RunTask", taskDefinition="web", count=2)
                for task in answer["tasks"]:
                    await until(partial(_has, host, task["taskArn"]), LATE_S)
                    await host.report(a_report(task["taskArn"], "STOPPED"))
                    reported.append(task["taskArn"])
                (now,) = (await place.pki(endpoint))["hosts"]
            await until(lambda: not client.status.unsent, LATE_S)
            assert client.status.connects == 1  # not one poll failed
            assert client.status.generation == 1
            assert renewed_in == {threading.get_ident()}, "not while connections are made"
        (now,) = (await place.pki(endpoint))["hosts"]
        assert (now["id"], now["serial"] != before["serial"]) == (before["id"], True)
        for arn in reported:
            assert (await endpoint.task(arn))["lastStatus"] == "STOPPED"


async def test_a_revoked_host_gets_nothing_more(place: Place, host: Host, tmp_path: Path) -> None:
    host.wait_s = 30.0
    async with place.running() as endpoint:
        await trust(place, host)
        client = await host.client()
        running = asyncio.create_task(client.run())
        await until(lambda: client.status.connected and host.taken, LATE_S)
        arn = client.status.instance_arn
        await endpoint.call("RegisterTaskDefinition", **definition())
        answer = await endpoint.call("RunTask", taskDefinition="web")
        task = answer["tasks"][0]["taskArn"]
        await until(lambda: task in host.arns(), LATE_S)
        began = time.monotonic()
        done = await place.pki(endpoint, "/revoke", host=arn, reason="stolen")
        assert done == {"id": (await identity(tmp_path, place)).id, "instanceArn": arn}
        with pytest.raises(StaleGeneration, match=r"revoked|deregistered"):
            async with asyncio.timeout(LATE_S):
                await running  # the poll that was held has ended, and the agent stops
        assert time.monotonic() - began < LATE_S
        told = await endpoint.task(task)
        assert (told["lastStatus"], told["desiredStatus"]) == ("STOPPED", "STOPPED")
        # Nothing is admitted with the certificate, not even where no instance is named.
        context = ssl.create_default_context(cafile=host.ca_file)
        context.load_cert_chain(IdentityFiles(tmp_path).chain)
        for path in ("hello", "ingresses/" + "a" * 32, "authority"):
            async with (
                aiohttp.ClientSession() as session,
                session.get(
                    f"{place.url}/v1/{path}", ssl=context, server_hostname=CONTROL_NAME
                ) as refused,
            ):
                text = await refused.text()
                assert refused.status == (200 if path == "authority" else 409), (path, text)
        with pytest.raises(StaleGeneration, match="revoked"):
            async with asyncio.timeout(LATE_S):
                await (await host.client()).run()
        (listed,) = (await place.pki(endpoint))["hosts"]
        assert listed["revokedBecause"] == "stolen"
    async with place.running():  # it stays so
        with pytest.raises(StaleGeneration, match="revoked"):
            async with asyncio.timeout(LATE_S):
                await (await host.client()).run()


@pytest.mark.parametrize("kind", ["expired", "of another authority"])
async def test_a_certificate_that_control_refuses_is_replaced(
    place: Place, host: Host, tmp_path: Path, kind: str
) -> None:
    async with place.running() as endpoint:
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            arn = client.status.instance_arn
        before = await identity(tmp_path, place)
        authority = (
            await place.authority() if kind == "expired" else Authority.make("x", now=time.time())
        )
        _put_certificate(tmp_path, authority, before.id, -60.0 if kind == "expired" else 3600.0)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            assert client.status.instance_arn == arn
        assert (await identity(tmp_path, place)).id != before.id
        told = {one["id"]: one for one in (await place.pki(endpoint))["hosts"]}
        assert "replaced" in told[before.id]["revokedBecause"]


def _put_certificate(data_dir: Path, authority: Authority, host_id: str, life_s: float) -> None:
    """Put another certificate in the place of the host's, with the same key."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    file = IdentityFiles(data_dir).chain
    text = file.read_bytes()
    key = serialization.load_pem_private_key(text, password=None)
    signed = authority.sign_host(
        cast("Any", key).public_key(), host_id, now=time.time(), life_s=life_s
    )
    file.write_bytes(text[: text.index(b"-----BEGIN CERTIFICATE-----")] + signed.pem)


async def test_a_copied_identity_is_refused_and_named(
    place: Place, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incumbents, "WAIT_S", 20.0)  # a busy machine must not decide it
    async with place.running() as endpoint:
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            there = tmp_path / "second"
            there.mkdir()
            for name in ("agent.db", "agent.db-wal"):
                shutil.copy(tmp_path / name, there / name)
            shutil.copytree(tmp_path / "identity", there / "identity")
            copied = await StateStore.open(there / "agent.db")
            copy = Host(copied, host.control)
            copy.token_file, copy.ca_file, copy.data_dir = host.token_file, host.ca_file, there
            with (
                structlog.testing.capture_logs() as logs,
                pytest.raises(StaleGeneration, match="another host is connected"),
            ):
                async with asyncio.timeout(LATE_S):
                    await (await copy.client()).run()
            told = [line for line in logs if "used on a second host" in line["event"]]
            assert [line["instance"] for line in told] == [client.status.instance_arn]
            await copied.close()
            await copy.close()
            assert client.status.connected
        async with endpoint.session.get(f"{endpoint.url}/healthz") as answer:
            assert "in the name of another host" in await answer.text()


async def test_a_call_of_a_host_that_is_revoked_meanwhile_ends_at_once(
    place: Place, host: Host, tmp_path: Path
) -> None:
    async with place.running() as endpoint:
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
        files = IdentityFiles(tmp_path)
        context = ssl.create_default_context(cafile=host.ca_file)
        context.load_cert_chain(files.chain)
        about: dict[str, Any] = {"ssl": context, "server_hostname": CONTROL_NAME}
        path = f"{place.url}/v1/ingresses/{'a' * 32}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{path}?after=0&wait=0", **about) as answer:
                assert answer.status == 200
                told = await answer.json()
            asked = f"{path}?run={told['run']}&after={told['serial']}&wait=50"
            held = asyncio.create_task(_status(session, asked, about))
            await asyncio.sleep(0.3)
            assert not held.done()
            (one,) = (await place.pki(endpoint))["hosts"]
            began = time.monotonic()
            await place.pki(endpoint, "/revoke", host=one["id"], reason="")
            assert await held == 409
            assert time.monotonic() - began < 1.0


async def _status(session: aiohttp.ClientSession, url: str, about: dict[str, Any]) -> int:
    async with session.get(url, **about) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (("one", "one", "two"), [200, 200, 409]),
        (("one", "two", "one"), [200, 200, 409]),
        (("one", "two", "two", "one"), [200, 200, 200, 409]),
    ],
)
async def test_a_copy_that_renews_is_found_out(
    place: Place, host: Host, tmp_path: Path, turns: tuple[str, ...], expected: list[int]
) -> None:
    async with place.running():
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
        for name in ("one", "two"):
            shutil.copytree(tmp_path / "identity", tmp_path / name / "identity")
        context = ssl.create_default_context(cafile=host.ca_file)
        statuses = []
        for name in turns:
            files = IdentityFiles(tmp_path / name)
            context = ssl.create_default_context(cafile=host.ca_file)
            context.load_cert_chain(files.chain)
            pair = key_pair.make()
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"{place.url}/v1/identities",
                    json={"request": pair.request},
                    ssl=context,
                    server_hostname=CONTROL_NAME,
                ) as answer,
            ):
                statuses.append(answer.status)
                if answer.status == 200:
                    files.chain.write_text(pair.key + (await answer.json())["certificate"])
                else:
                    assert "copy" in await answer.text()
        assert statuses == expected


async def test_names_in_a_request_are_refused(place: Place, host: Host) -> None:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    async with place.running() as endpoint:
        await trust(place, host)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "0" * 32)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name)
        text = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        context = ssl.create_default_context(cafile=host.ca_file)
        for asked, token in ((text, headers), (key_pair.make().request, {})):
            async with endpoint.session.post(
                f"{place.url}/v1/identities",
                json={"request": asked},
                headers=token,
                ssl=context,
                server_hostname=CONTROL_NAME,
            ) as answer:
                assert answer.status == (400 if token else 401), await answer.text()


async def test_a_wrong_fingerprint_is_refused_before_anything_secret_is_sent(
    place: Place,
) -> None:
    async with place.running():
        with pytest.raises(ConfigError, match="another fingerprint"):
            await introduction.authority_of(URL(place.url), "0" * 64)
    with pytest.raises(ConfigError, match="https"):
        await introduction.authority_of(URL("http://127.0.0.1:1"), "0" * 64)
    with pytest.raises(ControlUnavailable):
        await introduction.authority_of(URL(place.url), "0" * 64)


async def test_a_clock_that_is_wrong_is_told_at_both_ends(
    place: Place, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control's certificate has not begun for a host whose clock is a day behind."""
    async with place.running():
        await trust(place, host)
    sign = Authority.sign_server

    def later(self: Authority, served: Any, *, now: float) -> Any:
        return sign(self, served, now=now + 86_400.0)

    behind = SimpleNamespace(time=lambda: time.time() - 86_400.0)
    monkeypatch.setattr(Authority, "sign_server", later)
    monkeypatch.setattr(introduction, "time", behind)
    for module in (introduction, hello):  # on a busy machine, an answer takes longer
        monkeypatch.setattr(module, "LIMIT_S", LATE_S)
    with structlog.testing.capture_logs() as logs:
        async with place.running():
            with pytest.raises(ControlUnavailable) as caught:
                await hello.meet(place.url, token=TOKEN, ca_file=host.ca_file)
    assert "is not valid at this time" in str(caught.value)
    assert "this host's clock says" in str(caught.value)
    assert "and control's " in str(caught.value)
    told = [line for line in logs if line["event"].startswith("the clock of a host is wrong")]
    assert [round(line["ahead_s"], -3) for line in told] == [-86_000]


async def test_another_authority_takes_over_without_a_host_noticing(
    place: Place, host: Host, tmp_path: Path
) -> None:
    async with place.running() as endpoint:
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            before = (await place.pki(endpoint))["fingerprint"]
            view = await place.pki(endpoint, "/renew", authority=True)
            assert view["fingerprint"] != before
        # A new connection: the host knows only the old authority, and has a certificate of it.
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            assert client.status.generation == 2
    async with place.running() as endpoint:
        assert (await place.pki(endpoint))["fingerprint"] == view["fingerprint"]
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)


async def test_files_that_cannot_be_used_are_replaced(
    place: Place, host: Host, tmp_path: Path
) -> None:
    async with place.running():
        await trust(place, host)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            arn = client.status.instance_arn
        files = IdentityFiles(tmp_path)
        for damaged in (files.chain, files.directory / "identity.json"):
            damaged.write_bytes(b"\x00damaged")
            async with host.running() as client:
                await until(lambda: client.status.connected, LATE_S)
                assert client.status.instance_arn == arn
        shutil.rmtree(files.directory)
        async with host.running() as client:
            await until(lambda: client.status.connected, LATE_S)
            assert client.status.instance_arn == arn


def test_the_key_pair_is_made_by_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which finds the libraries where this process has them, as an installed agent does."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(
        sys, "executable", os.path.realpath(sys.executable)
    )  # without the environment around it
    pair = asyncio.run(key_pair.make_elsewhere())
    assert "PRIVATE KEY" in pair.key
    assert "CERTIFICATE REQUEST" in pair.request
    assert "KEY" not in repr(pair)
    assert json.loads(msgspec.json.encode(pair))["key"] == pair.key
