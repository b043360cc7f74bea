"""Calls of services that are not served, sent on to a real server that AWS's SDK cannot tell from control."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
import pytest
from aiohttp import web
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from yarl import URL

from agent.controlplane.audit.files import AuditSettings
from agent.controlplane.front import forward_targets, keys
from agent.errors import ConfigError
from tests.support.control_endpoint import Endpoint, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LARGE_BYTES = 48 * 2**20
CHUNK = b"x" * 65536
WAITING = 12


class Elsewhere:
    """A server that notes what it gets, and answers like several services."""

    def __init__(self) -> None:
        self.heads: list[web.Request] = []
        self.digests: list[str] = []
        self.were_whole: list[bool] = []
        self.url = ""
        self.all_wait = asyncio.Barrier(WAITING)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Elsewhere]:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, auto_decompress=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.heads.append(request)
        content = hashlib.sha256()
        try:
            async for chunk in request.content.iter_any():
                content.update(chunk)
        except (web.RequestPayloadError, ConnectionError):
            self.were_whole.append(False)
            raise
        self.were_whole.append(True)
        self.digests.append(content.hexdigest())
        if request.headers.get("X-Amz-Target", "").endswith(".DescribeTable"):
            await self.all_wait.wait()
        if request.headers.get("X-Amz-Target"):
            body = json.dumps({"TableNames": ["t"]})
            return web.Response(text=body, content_type="application/x-amz-json-1.0")
        if request.path == "/bucket/large":
            response = web.StreamResponse(headers={"Content-Length": str(LARGE_BYTES)})
            await response.prepare(request)
            for _ in range(LARGE_BYTES // len(CHUNK)):
                await response.write(CHUNK)
            return response
        if request.path == "/bucket/cut":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"x" * 10)
            assert request.transport is not None
            request.transport.close()
            return response
        if request.path == "/bucket/missing":
            text = "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>"
            return web.Response(status=404, text=text, content_type="application/xml")
        return web.Response(headers={"ETag": '"tag"', "x-amz-request-id": "theirs"})


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    async with Elsewhere().running() as running:
        yield running


@contextlib.asynccontextmanager
async def control(tmp_path: Path, *texts: str) -> AsyncIterator[tuple[Endpoint, keys.Key]]:
    async with control_endpoint(
        tmp_path / "d",
        keys_file=tmp_path / "credentials",
        token_file=tmp_path / "tokens",
        forward=forward_targets.parse(texts),
        audit=AuditSettings(tmp_path / "audit.jsonl"),
    ) as endpoint:
        (key,) = (await asyncio.to_thread(keys.load, tmp_path / "credentials")).values()
        yield endpoint, key


async def called(
    endpoint: Endpoint,
    key: keys.Key,
    service: str,
    operation: str,
    *,
    secret: str = "",
    **request: Any,
) -> Any:
    def call() -> Any:
        client = boto3.client(
            service,
            endpoint_url=endpoint.url,
            region_name="us-east-1",
            aws_access_key_id=key.id,
            aws_secret_access_key=secret or key.secret,
            config=Config(
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                read_timeout=60,
            ),
        )
        try:
            answer = getattr(client, operation)(**request)
            if "Body" in answer:
                answer["Body"] = answer["Body"].read()
            return answer
        finally:
            client.close()

    return await asyncio.to_thread(call)


async def test_calls_arrive_as_they_were_signed(tmp_path: Path, elsewhere: Elsewhere) -> None:
    async with control(tmp_path, f"*={elsewhere.url}") as (endpoint, key):
        body = b"y" * 300_000
        answer = await called(
            endpoint, key, "s3", "put_object", Bucket="bucket", Key="a b/ä+~", Body=body
        )
        assert answer["ETag"] == '"tag"'
        answer = await called(endpoint, key, "dynamodb", "list_tables")
        assert answer["TableNames"] == ["t"]
        with pytest.raises(ClientError, match="NoSuchKey"):
            await called(endpoint, key, "s3", "get_object", Bucket="bucket", Key="missing")
        with pytest.raises(ClientError, match="404"):
            await called(endpoint, key, "s3", "head_object", Bucket="bucket", Key="missing")
        records = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    put, listed, *_ = elsewhere.heads
    assert put.headers["Host"] == endpoint.url.removeprefix("http://")
    assert f"Credential={key.id}/" in put.headers["Authorization"]
    assert put.raw_path == "/bucket/a%20b/%C3%A4%2B~"
    assert listed.headers["X-Amz-Target"].endswith(".ListTables")
    assert [record["eventName"] for record in records] == ["PUT"]
    assert records[0]["userIdentity"]["userName"] == "default"
    assert records[0]["requestParameters"] == {
        "forwardedTo": elsewhere.url,
        "method": "PUT",
        "path": "/bucket/a b/ä+~",
    }


async def test_only_known_callers_are_served(tmp_path: Path, elsewhere: Elsewhere) -> None:
    async with control(tmp_path, f"s3={elsewhere.url}", f"sqs={elsewhere.url}") as (endpoint, key):
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            await called(
                endpoint, key, "s3", "put_object", secret="x" * 40, Bucket="b", Key="k", Body=b"x"
            )
        stranger = keys.Key("x", "ECSKSTRANGERSTRANGER", "y" * 40)
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            await called(endpoint, stranger, "s3", "list_buckets")
        with pytest.raises(ClientError, match="security token"):
            await called(endpoint, stranger, "sqs", "list_queues")
        with pytest.raises(ClientError, match="not kinesis"):
            await called(endpoint, key, "kinesis", "list_streams")
    assert not elsewhere.heads
    assert not (tmp_path / "audit.jsonl").read_text()


async def test_a_user_needs_all_of_a_service(tmp_path: Path, elsewhere: Elsewhere) -> None:
    async with control(tmp_path, f"s3={elsewhere.url}") as (endpoint, key):
        await called(endpoint, key, "iam", "create_user", UserName="ann")
        made = await called(endpoint, key, "iam", "create_access_key", UserName="ann")
        new = made["AccessKey"]
        ann = keys.Key("ann", new["AccessKeyId"], new["SecretAccessKey"])

        async def may(*statements: tuple[str, str, str]) -> None:
            names = ("Effect", "Action", "Resource")
            document = {
                "Version": "2012-10-17",
                "Statement": [dict(zip(names, each, strict=True)) for each in statements],
            }
            await called(
                endpoint, key, "iam", "put_user_policy",
                UserName="ann", PolicyName="p", PolicyDocument=json.dumps(document),
            )  # fmt: skip

        await may(("Allow", "*", "*"), ("Deny", "s3:DeleteObject", "arn:aws:s3:::kept/*"))
        for operation, request in (
            ("list_buckets", {}),
            ("delete_object", {"Bucket": "kept", "Key": "k"}),
        ):
            with pytest.raises(ClientError, match="explicit deny"):
                await called(endpoint, ann, "s3", operation, **request)
        await may(("Allow", "s3:GetObject", "*"))
        with pytest.raises(ClientError, match="not authorized to perform: s3:"):
            await called(endpoint, ann, "s3", "get_object", Bucket="b", Key="k")
        assert not elsewhere.heads
        await may(("Allow", "s3:*", "*"))
        await called(endpoint, ann, "s3", "get_object", Bucket="b", Key="k")
        assert len(elsewhere.heads) == 1


async def test_a_body_of_another_hash_does_not_arrive_whole(
    tmp_path: Path, elsewhere: Elsewhere
) -> None:
    async with control(tmp_path, f"s3={elsewhere.url}") as (endpoint, key):
        url, body = f"{endpoint.url}/bucket/k", b"z" * 200_000
        request = AWSRequest("PUT", url, data=body)
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        auth = S3SigV4Auth(Credentials(key.id, key.secret), "s3", "us-east-1")
        auth.add_auth(request)
        headers = dict(request.headers.items())
        async with endpoint.session.put(url, data=body, headers=headers) as answer:
            assert answer.status == 200
        other = body[:-1] + b"!"
        async with endpoint.session.put(url, data=other, headers=headers) as answer:
            text = await answer.text()
            assert (answer.status, "does not match the body" in text) == (400, True)
    assert elsewhere.digests == [hashlib.sha256(body).hexdigest()]


async def test_bodies_of_any_size_take_little_memory(tmp_path: Path, elsewhere: Elsewhere) -> None:
    async with control(tmp_path, f"s3={elsewhere.url}") as (endpoint, key):

        async def some() -> AsyncIterator[bytes]:
            for _ in range(LARGE_BYTES // len(CHUNK)):
                yield CHUNK

        url = f"{endpoint.url}/bucket/large"
        headers = await asyncio.to_thread(_signed, key, "PUT", url)
        headers["Content-Length"] = str(LARGE_BYTES)
        tracemalloc.start()
        try:
            received = 0
            async with endpoint.session.put(url, data=some(), headers=headers) as answer:
                assert answer.status == 200
                async for chunk in answer.content.iter_any():
                    received += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received == LARGE_BYTES
    # Client, control and target are all in this process.
    assert peak < LARGE_BYTES // 4


def _signed(key: keys.Key, method: str, url: str) -> dict[str, str]:
    request = AWSRequest(method, url)
    auth = S3SigV4Auth(Credentials(key.id, key.secret), "s3", "us-east-1")
    auth.payload = lambda _: "UNSIGNED-PAYLOAD"
    auth.add_auth(request)
    return dict(request.headers.items())


async def test_presigned_urls(tmp_path: Path, elsewhere: Elsewhere) -> None:
    async with control(tmp_path, f"s3={elsewhere.url}") as (endpoint, key):
        client = await asyncio.to_thread(
            lambda: boto3.client(
                "s3",
                endpoint_url=endpoint.url,
                region_name="us-east-1",
                aws_access_key_id=key.id,
                aws_secret_access_key=key.secret,
                config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
            )
        )
        url = client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k k"})
        client.close()
        async with endpoint.session.get(URL(url, encoded=True)) as answer:
            assert answer.status == 200
        async with endpoint.session.get(URL(url[:-1] + "x", encoded=True)) as answer:
            assert answer.status in (400, 403)
    assert len(elsewhere.heads) == 1


async def test_an_answer_that_is_cut_is_not_taken_for_a_whole_one(
    tmp_path: Path, elsewhere: Elsewhere
) -> None:
    async with control(tmp_path, f"s3={elsewhere.url}") as (endpoint, key):
        url = f"{endpoint.url}/bucket/cut"
        headers = await asyncio.to_thread(_signed, key, "GET", url)
        with pytest.raises(aiohttp.ClientError):
            async with endpoint.session.get(url, headers=headers) as answer:
                await answer.read()


@pytest.mark.parametrize(
    ("service", "operation"),
    [("s3", "list_buckets"), ("sns", "list_topics"), ("kinesis", "list_streams")],
)
async def test_a_target_that_is_away_is_named(tmp_path: Path, service: str, operation: str) -> None:
    async with Elsewhere().running() as elsewhere:
        gone = elsewhere.url
    async with control(tmp_path, f"*={gone}") as (endpoint, key):
        with pytest.raises(ClientError) as caught:
            await called(endpoint, key, service, operation)
    error = caught.value.response["Error"]
    assert error["Code"] == "ServiceUnavailable"
    assert f"Calls of {service} go to {gone}, which does not answer" in error["Message"]


async def test_calls_that_wait_at_the_target_delay_no_others(
    tmp_path: Path, elsewhere: Elsewhere
) -> None:
    async with control(tmp_path, f"dynamodb={elsewhere.url}") as (endpoint, key):
        request = AWSRequest("POST", f"{endpoint.url}/", data=b"{}")
        request.headers["X-Amz-Target"] = "DynamoDB_20120810.DescribeTable"
        SigV4Auth(Credentials(key.id, key.secret), "dynamodb", "us-east-1").add_auth(request)

        async def call() -> int:
            headers = dict(request.headers.items())
            async with endpoint.session.post(endpoint.url, data=b"{}", headers=headers) as answer:
                return answer.status

        async with asyncio.timeout(60):
            assert await asyncio.gather(*(call() for _ in range(WAITING))) == [200] * WAITING


async def test_a_target_can_see_its_own_host(tmp_path: Path, elsewhere: Elsewhere) -> None:
    async with control(tmp_path, f"*={elsewhere.url},host") as (endpoint, key):
        await called(endpoint, key, "s3", "list_buckets")
    assert elsewhere.heads[0].headers["Host"] == elsewhere.url.removeprefix("http://")


async def test_a_body_that_must_be_read_first_is_bounded(
    tmp_path: Path, elsewhere: Elsewhere
) -> None:
    async with control(tmp_path, f"*={elsewhere.url}") as (endpoint, key):
        request = AWSRequest("POST", f"{endpoint.url}/", data=b"{}")
        request.headers["X-Amz-Target"] = "Kinesis_20131202.PutRecord"
        SigV4Auth(Credentials(key.id, key.secret), "kinesis", "us-east-1").add_auth(request)
        headers = dict(request.headers.items())
        body = io.BytesIO(b"x" * (17 * 2**20))
        async with endpoint.session.post(endpoint.url, data=body, headers=headers) as answer:
            assert answer.status == 413
            assert "larger than" in await answer.text()
    assert not elsewhere.heads


async def test_a_service_that_is_served_cannot_be_sent_on(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with control(tmp_path, "logs=http://127.0.0.1:1"):
            pass
    assert caught.group_contains(ConfigError, match="serves logs itself")
