from __future__ import annotations

import time

import pytest
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.front.protocols import FORM, Addressed, Protocol, addressed, error

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200)
PARSERS = {
    Protocol.JSON: "json",
    Protocol.QUERY: "query",
    Protocol.EC2: "ec2",
    Protocol.REST_JSON: "rest-json",
    Protocol.S3: "rest-xml",
    Protocol.CBOR: "smithy-rpc-v2-cbor",
}


@pytest.mark.parametrize("protocol", Protocol)
@given(message=TEXT)
def test_botocore_reads_every_error(protocol: Protocol, message: str) -> None:
    answer = error(protocol, "SomeCode", message, "id-1")
    response = {
        "status_code": 400,
        "headers": {"content-type": answer.content_type}
        | {name.lower(): value for name, value in answer.headers.items()},
        "body": answer.body,
        "context": {"operation_name": "x"},
    }
    parsed = create_parser(PARSERS[protocol]).parse(response, None)
    assert parsed["Error"]["Code"] == "SomeCode"
    # XML has one kind of line end and no meaning in blanks around a text.
    assert parsed["Error"]["Message"].split() == message.split()


@given(
    st.dictionaries(
        st.sampled_from(["Authorization", "X-Amz-Target", "Smithy-Protocol"]), st.text(max_size=80)
    ),
    st.dictionaries(st.sampled_from(["X-Amz-Credential", "Action"]), st.text(max_size=80)),
    st.sampled_from(["", FORM, "application/json"]),
)
def test_any_request_is_told_or_passed(
    headers: dict[str, str], query: dict[str, str], content_type: str
) -> None:
    found = addressed(headers, query, content_type)
    assert found is None or len(found.service) <= 64


def test_a_header_of_beginnings_costs_no_more_than_another() -> None:
    began_s = time.thread_time()
    for _ in range(100):
        assert addressed({"Authorization": "Credential=" * 740}, {}, "") is None
    assert (
        time.thread_time() - began_s < 1.5
    )  # It was 4 s while each beginning was searched to the end.


def test_a_signature_in_the_url_counts() -> None:
    query = {"X-Amz-Credential": "AKIA/20260101/us-east-1/s3/aws4_request"}
    assert addressed({}, query, "") == Addressed("s3", Protocol.S3)


def test_cbor_clients_are_known_by_their_header() -> None:
    headers = {
        "Smithy-Protocol": "rpc-v2-cbor",
        "Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/monitoring/aws4_request",
    }
    assert addressed(headers, {}, "application/cbor") == Addressed("monitoring", Protocol.CBOR)
