"""The fake metadata service, asked by botocore's own client of it."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest
from botocore.utils import InstanceMetadataFetcher

from tests.backend.imds import ROLE, FakeImds

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def imds() -> Iterator[FakeImds]:
    with FakeImds() as made:
        yield made


def _get(imds: FakeImds, path: str, **headers: str) -> tuple[int, str]:
    method = "PUT" if path == "api/token" else "GET"
    connection = http.client.HTTPConnection("127.0.0.1", imds.port, timeout=5)
    try:
        connection.request(
            method, f"/latest/{path}", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_gives_keys_to_botocore(imds: FakeImds) -> None:
    imds.give_keys("AKID", "secret", "token", for_s=3600)
    fetcher = InstanceMetadataFetcher(base_url=imds.endpoint, num_attempts=1)
    found = fetcher.retrieve_iam_role_credentials()
    assert (found["role_name"], found["token"]) == (ROLE, "token")
    assert imds.problems == []


def test_answers_nothing_without_a_token(imds: FakeImds) -> None:
    assert _get(imds, "meta-data/instance-id")[0] == 401
    assert len(imds.problems) == 1
    _, token = _get(imds, "api/token", X_aws_ec2_metadata_token_ttl_seconds="60")
    named = {"X_aws_ec2_metadata_token": token}
    assert _get(imds, "meta-data/instance-id", **named) == (200, "i-0123456789abcdef0")
    assert _get(imds, "meta-data/spot/instance-action", **named)[0] == 404
    imds.announce_spot("stop")
    assert '"stop"' in _get(imds, "meta-data/spot/instance-action", **named)[1]
    imds.fail("meta-data/spot", 500)
    assert _get(imds, "meta-data/spot/instance-action", **named)[0] == 500
    imds.fail("meta-data/spot", 0)
    assert _get(imds, "meta-data/spot/instance-action", **named)[0] == 200
    imds.wait_seen("meta-data/spot/instance-action", count=4)
