"""Who may command a real control endpoint: by TCP with a key, by its socket, or anybody."""

from __future__ import annotations

import asyncio
import configparser
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
import pytest
from botocore import UNSIGNED, auth
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.front import operators
from agent.controlplane.front.operators import is_own_name
from tests.support.control_endpoint import Endpoint, control_endpoint
from tests.support.ecs_shapes import TARGET_PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIST = {
    "X-Amz-Target": f"{TARGET_PREFIX}.ListClusters",
    "Content-Type": "application/x-amz-json-1.1",
}


class Keyed:
    """An endpoint that asks for keys, and its key."""

    def __init__(self, endpoint: Endpoint, directory: Path, reload: asyncio.Event) -> None:
        self.endpoint = endpoint
        self.directory = directory
        self.file = directory / "credentials"
        self.reload = reload
        parser = configparser.ConfigParser()
        parser.read(self.file)
        self.credentials = Credentials(
            parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"]
        )

    async def boto(self, operation: str, **client: Any) -> Any:
        def call() -> Any:
            values = {
                "aws_access_key_id": self.credentials.access_key,
                "aws_secret_access_key": self.credentials.secret_key,
                "config": Config(retries={"total_max_attempts": 1}),
            }
            made = boto3.client(
                "ecs",
                endpoint_url=self.endpoint.url,
                region_name="us-east-1",
                **(values | client),
            )
            try:
                return getattr(made, operation)()
            finally:
                made.close()

        return await asyncio.to_thread(call)

    async def refusal(self, **client: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            await self.boto("list_clusters", **client)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    def signed(self, *, presigned_s: int = 0, body: bytes = b"{}", **headers: str) -> AWSRequest:
        request = AWSRequest("POST", self.endpoint.url + "/", headers=LIST | headers, data=body)
        if presigned_s:
            SigV4QueryAuth(self.credentials, "ecs", "us-east-1", presigned_s).add_auth(request)
        else:
            SigV4Auth(self.credentials, "ecs", "us-east-1").add_auth(request)
        return request

    async def send(self, request: AWSRequest, **changes: str) -> tuple[int, str]:
        headers = dict(request.headers.items()) | changes
        async with self.endpoint.session.post(
            request.url, data=request.data, headers=headers
        ) as answer:
            body = await answer.json(content_type=None) if answer.status != 403 else {}
            return answer.status, str(body.get("__type", ""))


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Keyed]:
    reload = asyncio.Event()
    async with control_endpoint(
        tmp_path,
        keys_file=tmp_path / "credentials",
        socket=tmp_path / "control.sock",
        reload=reload,
    ) as endpoint:
        yield await asyncio.to_thread(Keyed, endpoint, tmp_path, reload)


async def test_a_fresh_key_is_made_that_its_owner_alone_reads(keyed: Keyed) -> None:
    assert (await keyed.boto("list_clusters"))["clusterArns"] == []
    assert keyed.file.stat().st_mode & 0o777 == 0o600
    first = keyed.file.read_bytes()
    assert keyed.credentials.secret_key.encode() in first


@pytest.mark.parametrize(
    ("client", "code", "text"),
    [
        (
            {"config": Config(signature_version=UNSIGNED)},
            "MissingAuthenticationTokenException",
            "Missing Authentication Token: use a key of control: eval $(ecs-agent env)",
        ),
        (
            {"aws_access_key_id": "AKIAXXXXXXXXXXXXXXXX"},
            "UnrecognizedClientException",
            "The security token included in the request is invalid: use a key of control",
        ),
        (
            {"aws_secret_access_key": "x" * 40},
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided.",
        ),
    ],
)
async def test_who_has_no_key_is_told_how_to_get_one(
    keyed: Keyed, client: dict[str, Any], code: str, text: str
) -> None:
    got, message = await keyed.refusal(**client)
    assert got == code
    assert text in message
    assert keyed.credentials.secret_key not in message


async def test_presigned_calls(keyed: Keyed) -> None:
    assert await keyed.send(keyed.signed(presigned_s=60)) == (200, "")
    request = keyed.signed(presigned_s=60)
    request.url = request.url.replace("X-Amz-Expires=60", "X-Amz-Expires=61")
    assert await keyed.send(request) == (400, "InvalidSignatureException")
    assert await keyed.send(keyed.signed(presigned_s=700_000)) == (
        400,
        "IncompleteSignatureException",
    )


async def test_a_call_that_was_changed_on_its_way(keyed: Keyed) -> None:
    request = keyed.signed()
    assert await keyed.send(request, **{"X-Amz-Target": f"{TARGET_PREFIX}.CreateCluster"}) == (
        400,
        "InvalidSignatureException",
    )
    request = keyed.signed()
    request.data = b'{"maxResults": 1}'
    assert await keyed.send(request) == (400, "InvalidSignatureException")
    # What AWS would look at must be signed.
    assert await keyed.send(keyed.signed(), **{"X-Amz-Other": "x"}) == (
        400,
        "IncompleteSignatureException",
    )


async def test_a_captured_call_is_worth_nothing_a_moment_later(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "SAME_SIGNATURE_S", 0.2)
    request = keyed.signed()
    # Two equal calls of one second have one signature, and a broken one is sent again.
    assert await keyed.send(request) == (200, "")
    assert await keyed.send(request) == (200, "")
    await asyncio.sleep(0.3)
    assert await keyed.send(request) == (400, "InvalidSignatureException")


@pytest.mark.parametrize("shift_s", [-1000, 1000])
async def test_a_clock_that_is_wrong_is_named(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch, shift_s: int
) -> None:
    real = auth.get_current_datetime
    monkeypatch.setattr(
        auth, "get_current_datetime", lambda *a, **k: real(*a, **k) + timedelta(seconds=shift_s)
    )
    code, text = await keyed.refusal()
    assert code == "InvalidSignatureException"
    assert ("Signature expired" if shift_s < 0 else "Signature not yet current") in text


async def test_keys_are_read_anew(keyed: Keyed) -> None:
    text = keyed.file.read_text()
    keyed.file.write_text(
        f"{text}[more]\naws_access_key_id = {'A' * 20}\naws_secret_access_key = {'s' * 40}\n"
    )
    keyed.reload.set()
    more = {"aws_access_key_id": "A" * 20, "aws_secret_access_key": "s" * 40}
    async with asyncio.timeout(5):
        while True:
            try:
                await keyed.boto("list_clusters", **more)
                break
            except ClientError:
                await asyncio.sleep(0.02)
    keyed.file.write_text("nonsense")
    keyed.reload.set()
    await asyncio.sleep(0.1)
    await keyed.boto("list_clusters", **more)


async def test_the_owner_needs_no_key_by_the_socket(keyed: Keyed) -> None:
    path = keyed.directory / "control.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    connector = aiohttp.UnixConnector(str(path))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://control/", data=b"{}", headers=LIST) as answer,
    ):
        assert answer.status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
async def test_another_user_is_refused_by_the_socket(keyed: Keyed) -> None:
    temporary = Path(tempfile.gettempdir())
    path = keyed.directory / "control.sock"
    # As if somebody had opened the way: the kernel still says who calls.
    for opened in (path, *path.parents):
        if temporary in opened.parents:
            opened.chmod(0o777)
    script = (
        "import http.client, os, socket, sys\n"
        "os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "c = http.client.HTTPConnection('control'); c.sock = s\n"
        f"c.request('POST', '/', b'{{}}', {LIST!r})\n"
        "print(c.getresponse().status)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "403"


async def test_web_pages_are_refused_everywhere(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        for method, path in (("POST", "/"), ("POST", "/v1/instances"), ("GET", "/v1/hello")):
            headers = LIST | {"Origin": "http://127.0.0.1"}
            async with endpoint.session.request(
                method, f"{endpoint.url}{path}", data=b"{}", headers=headers
            ) as answer:
                assert answer.status == 403
        # Where no key is asked for, a page could come by a name that it has pointed at this host.
        headers = LIST | {"Host": "evil.example:6820"}
        async with endpoint.session.post(endpoint.url, data=b"{}", headers=headers) as answer:
            assert answer.status == 403
        async with endpoint.session.post(endpoint.url, data=b"{}", headers=LIST) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1", True), ("127.0.0.1:6820", True), ("[::1]:6820", True), ("[::1]", True)),
        *(("localhost:1", True), ("LOCALHOST", True), ("10.0.0.1:80", True)),
        *(("", False), ("evil.example:6820", False), ("localhost.evil.example", False)),
        *(("127.0.0.1.evil.example:80", False), (":", False)),
    ],
)
def test_names_of_this_host(host: str, own: bool) -> None:
    assert is_own_name(host) is own


@given(st.text(max_size=40))
def test_any_host_is_judged(host: str) -> None:
    assert is_own_name(host) in (True, False)
