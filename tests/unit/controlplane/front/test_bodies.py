"""Bodies: nothing is read or inflated for a stranger, and never beyond the limit for anybody."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import zlib
from typing import TYPE_CHECKING

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agent.controlplane.front import bodies, keys
from agent.controlplane.front.service_api import BODY_LIMIT_BYTES
from tests.support.control_endpoint import Endpoint, control_endpoint
from tests.support.ecs_shapes import TARGET_PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LIST = {
    "X-Amz-Target": f"{TARGET_PREFIX}.ListClusters",
    "Content-Type": "application/x-amz-json-1.1",
}
BOMB = gzip.compress(b" " * 50_000_000, mtime=0)


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(
        tmp_path, keys_file=tmp_path / "credentials", token_file=tmp_path / "tokens"
    ) as running:
        yield running


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Formats of what was inflated."""
    seen: list[int] = []
    real = zlib.decompressobj

    def watched(wbits: int) -> object:
        seen.append(wbits)
        return real(wbits)

    monkeypatch.setattr(zlib, "decompressobj", watched)
    return seen


async def signed(endpoint: Endpoint, directory: Path, body: bytes, **headers: str) -> AWSRequest:
    loaded = await asyncio.to_thread(keys.load, directory / "credentials")
    key = next(iter(loaded.values()))
    request = AWSRequest("POST", endpoint.url + "/", headers=LIST | headers, data=body)
    SigV4Auth(Credentials(key.id, key.secret), "ecs", "us-east-1").add_auth(request)
    return request


async def send(endpoint: Endpoint, request: AWSRequest, body: bytes) -> tuple[int, str, str]:
    headers = dict(request.headers.items())
    async with endpoint.session.post(request.url, data=io.BytesIO(body), headers=headers) as answer:
        told = json.loads(await answer.read() or b"{}")
        return answer.status, told.get("__type", ""), told.get("message", "")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate", "raw deflate", ""])
async def test_what_a_known_sender_compressed_is_read(
    endpoint: Endpoint, tmp_path: Path, encoding: str
) -> None:
    plain = b'{"maxResults": 5}'
    packed = {
        "deflate": zlib.compress(plain),
        "raw deflate": zlib.compress(plain, wbits=-15),
        "": plain,
    }.get(encoding, gzip.compress(plain, mtime=0))
    header = {"Content-Encoding": encoding.removeprefix("raw ")} if encoding else {}
    request = await signed(endpoint, tmp_path, packed, **header)
    assert (await send(endpoint, request, packed))[0] == 200


@pytest.mark.parametrize(
    ("encoding", "body", "status", "said"),
    [
        ("gzip", BOMB, 413, f"larger than {BODY_LIMIT_BYTES} bytes when it is inflated"),
        ("deflate", zlib.compress(b" " * 50_000_000), 413, "when it is inflated"),
        ("gzip", b"no gzip", 400, "not valid gzip"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-3], 400, "its end is missing"),
        ("gzip", gzip.compress(b"{}", mtime=0) * 2, 400, "more than one gzip stream"),
        ("br", b"{}", 415, "must be gzip, deflate or identity"),
        ("gzip, gzip", b"{}", 415, "must be gzip, deflate or identity"),
        ("identity", b" " * (BODY_LIMIT_BYTES + 1), 413, f"larger than {BODY_LIMIT_BYTES} bytes"),
    ],
)
async def test_what_cannot_be_read_is_refused_by_name(
    endpoint: Endpoint, tmp_path: Path, encoding: str, body: bytes, status: int, said: str
) -> None:
    request = await signed(endpoint, tmp_path, body, **{"Content-Encoding": encoding})
    got = await send(endpoint, request, body)
    assert got[0] == status
    assert said in got[2]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", LIST),
        ("/", LIST | {"X-Amz-Target": f"{TARGET_PREFIX}.RegisterContainerInstance"}),
        ("/", {}),
        ("/any/path", {}),
        ("/healthz", {}),
        ("/v1/instances", {}),
        ("/v1/instances", {"Authorization": "Bearer wrong"}),
        ("/v1/instances/x/changes", {"X-Ecs-Generation": "1"}),
        ("/acs/ws", {}),
    ],
)
async def test_nothing_of_a_stranger_is_inflated(
    endpoint: Endpoint, inflated: list[int], path: str, headers: dict[str, str]
) -> None:
    more = headers | {"Content-Encoding": "gzip"}
    async with endpoint.session.post(endpoint.url + path, data=BOMB, headers=more) as answer:
        assert 400 <= answer.status < 500
    assert inflated == []


async def test_a_signature_of_another_body_inflates_nothing(
    endpoint: Endpoint, tmp_path: Path, inflated: list[int]
) -> None:
    request = await signed(endpoint, tmp_path, b"{}", **{"Content-Encoding": "gzip"})
    assert (await send(endpoint, request, BOMB))[:2] == (400, "InvalidSignatureException")
    assert inflated == []


@pytest.mark.parametrize("authorization", ["", "AWS4-HMAC-SHA256 Credential=x", "Bearer x"])
async def test_a_stranger_is_answered_before_its_body_has_come(
    endpoint: Endpoint, authorization: str
) -> None:
    host, port = endpoint.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in LIST.items())
    head += f"Authorization: {authorization}\r\n" if authorization else ""
    writer.write(f"{head}\r\n".encode())
    async with asyncio.timeout(5):
        assert b" 400 " in await reader.readline()
    writer.close()


async def test_a_known_key_with_half_a_body_is_answered_in_time(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.3)
    request = await signed(endpoint, tmp_path, b"{}" * 100)
    host, port = endpoint.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    writer.write(
        f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 200\r\n{head}\r\n{{".encode()
    )
    async with asyncio.timeout(5):
        assert b" 408 " in await reader.readline()
    writer.close()


async def test_others_are_served_while_a_known_sender_inflates(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    """Noise does not shrink: the largest body that inflates is inflated, off the event loop."""
    plain = b" " * (BODY_LIMIT_BYTES - 2) + b"{}"
    packed = gzip.compress(plain, mtime=0)
    request = await signed(endpoint, tmp_path, packed, **{"Content-Encoding": "gzip"})
    answers = await asyncio.gather(*(send(endpoint, request, packed) for _ in range(20)))
    assert [status for status, *_ in answers] == [200] * 20


async def test_digests_of_large_and_small_bodies_are_alike() -> None:
    large = os.urandom(100_000)
    assert await bodies.digest(large) == bodies._digest(large)
