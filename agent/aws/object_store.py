"""Objects of S3, or of what speaks its protocol: read whole, within a limit.

Uses the network. Raises ``AwsRefused``, ``AwsUnavailable`` and what the source of keys raises. A bucket
of another region is followed there once, as S3 says where it is.

Source: the REST API of S3 (where a bucket's name goes, ``x-amz-bucket-region``).

Tests: ``tests/unit/aws/test_object_store.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from yarl import URL

from agent.aws.exchange import AwsCall, Exchange
from agent.aws.query import xml_fault
from agent.errors import AwsRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.aws.faults import Fault
    from agent.aws.http import AwsHttp
    from agent.aws.keys import KeySource
    from agent.aws.signing import Signer

REGION_HEADER: Final = "x-amz-bucket-region"
_IN_HOST: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
"""Names of buckets that may be a part of a host name for which Amazon has a certificate."""
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")
_TOLD_REGION: Final = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")


def object_url(endpoint: URL, bucket: str, key: str, *, in_path: bool) -> URL:
    """Return the URL of an object, encoded as it is sent and signed. Pure.

    Args:
        endpoint: of S3 in a region, or of what stands for it.
        bucket: name of the bucket.
        key: name of the object.
        in_path: name the bucket in the path, as everything but Amazon's S3 wants it.
    """
    path = quote(key, safe="/-_.~")
    base = str(endpoint).rstrip("/")
    if in_path or not _IN_HOST.fullmatch(bucket):
        return URL(f"{base}/{quote(bucket, safe='-_.~')}/{path}", encoded=True)
    scheme, _, host = base.partition("://")
    return URL(f"{scheme}://{bucket}.{host}/{path}", encoded=True)


class ObjectStore:
    """S3 in the regions of its buckets."""

    def __init__(
        self,
        http: AwsHttp,
        keys: KeySource,
        signer: Callable[[str], Signer],
        endpoint: Callable[[str], URL],
        *,
        in_path: bool,
    ) -> None:
        """``signer`` and ``endpoint`` are those of a region; ``in_path`` as in ``object_url``."""
        self._http = http
        self._keys = keys
        self._signer = signer
        self._endpoint = endpoint
        self._in_path = in_path

    async def get(
        self,
        region: str,
        bucket: str,
        key: str,
        *,
        limit_bytes: int,
        attempts: int,
        limit_s: float,
        first_wait_s: float = 0.5,
    ) -> bytes:
        """Return the content of an object.

        Args:
            region: where the bucket is most likely.
            bucket: its name.
            key: name of the object.
            limit_bytes: an object larger than this is refused.
            attempts: at most so many in a region.
            limit_s: for each attempt.
            first_wait_s: longest wait after the first attempt; it doubles each time.

        Raises:
            AwsRefused: there is no such object, or it is too large, or S3 refuses it.
            AwsUnavailable: no answer, or a transient error.
        """
        told = ""

        def judge(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
            nonlocal told
            told = _region_in(headers, body)
            return xml_fault(status, headers, body)

        for where in (region, ""):
            place = where or told
            url = object_url(self._endpoint(place), bucket, key, in_path=self._in_path)
            exchange = Exchange(
                self._http, self._keys, self._signer(place), url, first_wait_s=first_wait_s
            )
            call = AwsCall(
                what="GetObject",
                headers={},
                body=b"",
                attempts=attempts,
                limit_s=limit_s,
                method="GET",
                url=url,
                limit_bytes=limit_bytes,
                read=bytes,
                judge=judge,
            )
            try:
                content: bytes = await exchange.make(call)
            except AwsRefused:
                if not where or told in {"", region}:
                    raise
            else:
                return content
        raise AssertionError("unreachable")  # pragma: no cover


def _region_in(headers: Mapping[str, str], body: bytes) -> str:
    told = headers.get(REGION_HEADER, "")
    if _REGION.fullmatch(told):
        return told
    found = _TOLD_REGION.search(body)
    return found[1].decode() if found else ""
