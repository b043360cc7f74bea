"""The check of signatures, held against botocore, which signs as the engine's SDK does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from agent.awslogs import signature
from agent.awslogs.grants import Grant, LogGrants
from tests.support.log_driver import put, signed

if TYPE_CHECKING:
    from collections.abc import Callable

GRANTS = LogGrants(b"secret")
KEYS = GRANTS.keys(GRANTS.credentials_id(Grant("a" * 32, create_group=False)))
assert KEYS is not None
SCOPED = "AWS4-HMAC-SHA256 Credential=a/20260101/r/logs/aws4_request, "


@given(st.text(), st.sampled_from(["us-east-1", "cn-north-1"]))
def test_what_was_signed_with_the_key_is_known_as_such(message: str, region: str) -> None:
    assert KEYS is not None
    headers, body = signed(KEYS, "PutLogEvents", put(message), region=region)
    claim = signature.read(CIMultiDict(headers))
    assert claim is not None
    assert claim.access_key == KEYS.access_key
    assert signature.is_made_with(KEYS.secret_key, claim, CIMultiDict(headers), body)
    assert not signature.is_made_with("another", claim, CIMultiDict(headers), body)
    assert not signature.is_made_with(KEYS.secret_key, claim, CIMultiDict(headers), body + b" ")


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.update({"X-Amz-Target": "Logs_20140328.CreateLogGroup"}),
        lambda h: h.update({"Host": "elsewhere"}),
        lambda h: h.update({"X-Amz-Date": h["X-Amz-Date"][:-3] + "99Z"}),
    ],
)
def test_what_was_changed_on_the_way_is_refused(
    change: Callable[[CIMultiDict[str]], None],
) -> None:
    assert KEYS is not None
    sent, body = signed(KEYS, "PutLogEvents", put("x"))
    headers = CIMultiDict(sent)
    change(headers)
    claim = signature.read(headers)
    assert claim is None or not signature.is_made_with(KEYS.secret_key, claim, headers, body)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer x",
        "AWS4-HMAC-SHA256 Credential=a/20260101/r/ecs/aws4_request, SignedHeaders=host, Signature=00",
        f"{SCOPED}SignedHeaders=host;x-amz-date, Signature={'0' * 64}",
        f"{SCOPED}SignedHeaders=host;host;x-amz-date;x-amz-target, Signature={'0' * 64}",
    ],
)
def test_what_claims_nothing_that_can_be_checked_is_no_claim(header: str) -> None:
    assert signature.read(CIMultiDict({"Authorization": header, "X-Amz-Date": "20260101"})) is None


@given(st.text(), st.binary(max_size=40))
def test_no_header_breaks_it(text: str, body: bytes) -> None:
    headers = CIMultiDict({"Authorization": text, "X-Amz-Date": text})
    claim = signature.read(headers)
    assert claim is None or not signature.is_made_with("k", claim, headers, body)
