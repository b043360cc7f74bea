"""Objects from a server on the loopback that answers as S3 does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from yarl import URL

from agent.aws.clock import AwsClock
from agent.aws.keys import Keys
from agent.aws.object_store import ObjectStore, object_url
from agent.aws.signing import Signer
from agent.errors import AwsRefused, AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.aws.http import AwsHttp

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]

KEYS = Keys("ASIAEXAMPLE", "the-secret", "the-token")


class Source:
    async def keys(self) -> Keys:
        return KEYS

    def refused(self, _keys: Keys) -> None:
        """Has no others."""


class S3:
    """A bucket in one region, which knows where it is."""

    def __init__(self) -> None:
        self.region = "eu-west-1"
        self.tells_by_header = True
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.requests: list[web.Request] = []
        self.failures: list[int] = []
        self.chunked = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        signed_for = request.headers["Authorization"].split("/")[2]
        self.asked.append((signed_for, request.raw_path))
        if self.failures:
            return web.Response(status=self.failures.pop(0), body=b"<Error/>")
        if signed_for != self.region:
            return self._elsewhere()
        content = self.objects.get(request.raw_path)
        if content is None:
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        if self.chunked:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(content)
            return response
        return web.Response(body=content)

    def _elsewhere(self) -> web.Response:
        if self.tells_by_header:
            answer = _error(301, "PermanentRedirect", "Use the specified endpoint.")
            answer.headers["x-amz-bucket-region"] = self.region
            return answer
        more = f"<Region>{self.region}</Region>"
        return _error(400, "AuthorizationHeaderMalformed", "the region is wrong", more)


def _error(status: int, code: str, text: str, more: str = "") -> web.Response:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message>{more}</Error>"
    return web.Response(status=status, body=body.encode(), content_type="application/xml")


@pytest.fixture
def s3() -> S3:
    return S3()


@pytest.fixture
async def store(http: AwsHttp, serve: Serve, s3: S3) -> ObjectStore:
    url = URL(await serve(s3.handle))
    clock = AwsClock(lambda: 1_800_000_000.0)
    return ObjectStore(
        http, Source(), lambda region: Signer(region, "s3", clock), lambda _: url, in_path=True
    )


async def get(store: ObjectStore, key: str, region: str = "eu-west-1", limit: int = 1000) -> Any:
    return await store.get(
        region, "b", key, limit_bytes=limit, attempts=3, limit_s=5.0, first_wait_s=0.001
    )


@pytest.mark.parametrize(
    ("bucket", "key", "in_path", "url"),
    [
        ("b-1", "a/x.env", False, "https://b-1.s3.eu-west-1.amazonaws.com/a/x.env"),
        ("b.1", "x.env", False, "https://s3.eu-west-1.amazonaws.com/b.1/x.env"),
        ("B_1", "x.env", False, "https://s3.eu-west-1.amazonaws.com/B_1/x.env"),
        ("b-1", "x.env", True, "https://s3.eu-west-1.amazonaws.com/b-1/x.env"),
        (
            "b-1",
            "a b/+é/../?#%/x~.env",
            False,
            "https://b-1.s3.eu-west-1.amazonaws.com/a%20b/%2B%C3%A9/../%3F%23%25/x~.env",
        ),
    ],
)
def test_where_an_object_is(bucket: str, key: str, in_path: bool, url: str) -> None:
    endpoint = URL("https://s3.eu-west-1.amazonaws.com")
    assert str(object_url(endpoint, bucket, key, in_path=in_path)) == url


def test_a_bucket_in_the_path_of_an_endpoint_with_a_path() -> None:
    url = object_url(URL("http://127.0.0.1:9000/s3/"), "b", "k", in_path=True)
    assert str(url) == "http://127.0.0.1:9000/s3/b/k"


@pytest.mark.parametrize("key", ["x.env", "a b/é+/../%25/x~.env", "/slash//"])
async def test_an_object_is_asked_for_with_a_good_signature(
    store: ObjectStore, s3: S3, key: str
) -> None:
    path = str(object_url(URL("http://h"), "b", key, in_path=True)).removeprefix("http://h")
    s3.objects[path] = b"A=1\n"
    assert await get(store, key) == b"A=1\n"
    (request,) = s3.requests
    names = request.headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    assert names == "host;x-amz-content-sha256;x-amz-date;x-amz-security-token"
    again = AWSRequest(
        "GET",
        f"http://{request.headers['Host']}{request.raw_path}",
        headers={name: request.headers[name] for name in names.split(";")},
    )
    again.context["timestamp"] = request.headers["X-Amz-Date"]
    auth = S3SigV4Auth(
        ReadOnlyCredentials(KEYS.access_key, KEYS.secret_key, KEYS.session_token), "s3", "eu-west-1"
    )
    text = auth.string_to_sign(again, auth.canonical_request(again))
    assert request.headers["Authorization"].endswith(f"Signature={auth.signature(text, again)}")


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_bucket_of_another_region_is_followed_there(
    store: ObjectStore, s3: S3, by_header: bool
) -> None:
    s3.objects["/b/k"] = b"content"
    s3.tells_by_header = by_header
    assert await get(store, "k", region="us-east-1") == b"content"
    assert [region for region, _ in s3.asked] == ["us-east-1", "eu-west-1"]


async def test_a_bucket_that_sends_round_in_circles_is_left(store: ObjectStore, s3: S3) -> None:
    s3.region = "nowhere"
    s3._elsewhere = lambda: _error(301, "PermanentRedirect", "go on", "<Region>over-there</Region>")  # type: ignore[method-assign]
    with pytest.raises(AwsRefused, match="PermanentRedirect: go on"):
        await get(store, "k")
    assert len(s3.asked) == 2


async def test_what_is_not_there_is_told_in_the_words_of_s3(store: ObjectStore, s3: S3) -> None:
    with pytest.raises(AwsRefused) as caught:
        await get(store, "k")
    assert str(caught.value) == "GetObject: NoSuchKey: The specified key does not exist."
    assert len(s3.asked) == 1


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_object_that_is_too_large_is_refused_at_once(
    store: ObjectStore, s3: S3, chunked: bool
) -> None:
    s3.objects["/b/k"], s3.chunked = b"x" * 1001, chunked
    with pytest.raises(AwsRefused, match="larger than 1000 bytes"):
        await get(store, "k")
    assert len(s3.asked) == 1
    s3.objects["/b/k"] = b"x" * 1000
    assert await get(store, "k") == b"x" * 1000


async def test_trouble_is_tried_again(store: ObjectStore, s3: S3) -> None:
    s3.objects["/b/k"] = b"content"
    s3.failures = [503, 500]
    assert await get(store, "k") == b"content"
    s3.failures = [503, 500, 500, 500]
    with pytest.raises(AwsUnavailable, match="GetObject: HTTP 500"):
        await get(store, "k")
