from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.aws import faults
from agent.aws.faults import json_fault
from agent.aws.query import xml_fault
from agent.errors import AwsRefused, AwsUnavailable


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("headers", "content", "code", "text"),
    [
        ({}, body(__type="ClientException", message="no"), "ClientException", "no"),
        (
            {},
            body(__type="com.amazonaws.ecs#ClientException", Message="no"),
            "ClientException",
            "no",
        ),
        (
            {"x-amzn-ErrorType": "ClusterNotFoundException:http://internal.amazon.com/coral/"},
            body(message="Cluster not found."),
            "ClusterNotFoundException",
            "Cluster not found.",
        ),
        ({}, body(code="SlowDown"), "SlowDown", ""),
        ({}, body(__type=7, message=["x"]), "", ""),
        (
            {},
            b"<html><body><h1>503</h1>Service  Unavailable</body></html>",
            "",
            "503 Service Unavailable",
        ),
        ({}, b"", "", ""),
        ({}, b"\xff\xfe", "", "��"),
        ({}, b"[" * 100_000, "", "[" * 500),
    ],
)
def test_reads_every_shape_of_an_error(
    headers: dict[str, str], content: bytes, code: str, text: str
) -> None:
    fault = json_fault(400, headers, content)
    assert (fault.code, fault.text) == (code, text)


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "Throttling",
        "RequestThrottledException",
        "TooManyRequestsException",
        "LimitExceededException",
        "EC2ThrottledException",
        "RequestTimeoutException",
    ],
)
def test_throttling_is_tried_again_whatever_its_status(code: str) -> None:
    error = json_fault(400, {}, body(__type=code, message="slow")).error("Op")
    assert isinstance(error, AwsUnavailable)
    assert error.code == code
    assert str(error) == f"Op: {code}: slow"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 505, 599])
def test_a_broken_service_is_tried_again(status: int) -> None:
    error = json_fault(status, {}, body(__type="ServerException", message="x")).error("Op")
    assert isinstance(error, AwsUnavailable)
    assert error.code == "ServerException"


@pytest.mark.parametrize(
    "code", ["InvalidParameterException", "ClientException", "AccessDeniedException"]
)
def test_the_rest_is_final(code: str) -> None:
    error = json_fault(400, {}, body(__type=code, message="no")).error("Op")
    assert isinstance(error, AwsRefused)
    assert (error.code, error.status) == (code, 400)


@pytest.mark.parametrize("status", [301, 403, 404, 407])
def test_an_answer_that_is_not_of_aws_is_no_verdict(status: int) -> None:
    assert isinstance(json_fault(status, {}, b"<html>proxy</html>").error("Op"), AwsUnavailable)


def test_a_refused_signature_is_told_without_the_request() -> None:
    text = "does not match. The Canonical String for this request should have been 'POST ... token"
    fault = json_fault(403, {}, body(__type="InvalidSignatureException", message=text))
    assert fault.text == "does not match."
    assert fault.may_be_skewed
    assert fault.is_stale_keys


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException"])
def test_keys_that_may_have_been_replaced_are_known(code: str) -> None:
    assert json_fault(400, {}, body(__type=code)).is_stale_keys


def test_the_text_is_one_line_within_its_limit() -> None:
    fault = json_fault(400, {}, body(__type="A", message="a\n\tb\x00\x1b[31m" + "x" * 10_000))
    assert fault.text.startswith("a b?")
    assert len(fault.text) == 500
    assert fault.text.isprintable()


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("", 0), ("3", 3), ("1e9", 300), ("-5", 0), ("nan", 0), ("inf", 300), ("soon", 0)],
)
def test_retry_after_has_bounds(told: str, seconds: float) -> None:
    assert faults.retry_after_s({"Retry-After": told}) == seconds


def test_retry_after_may_be_a_date() -> None:
    assert faults.retry_after_s({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}) == 300
    assert faults.retry_after_s({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0


def test_reads_the_errors_of_ec2() -> None:
    content = (
        b'<?xml version="1.0"?><Response><Errors><Error><Code>UnauthorizedOperation</Code>'
        b"<Message>You are not\nauthorized</Message></Error></Errors></Response>"
    )
    fault = xml_fault(403, {}, content)
    assert (fault.code, fault.text) == ("UnauthorizedOperation", "You are not authorized")
    assert xml_fault(503, {}, b"<html>down").text == "down"


@given(
    st.integers(100, 599),
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(
        lambda value: json.dumps({"__type": value, "message": value}).encode()
    ),
)
def test_no_answer_can_break_it(status: int, content: bytes) -> None:
    for judge in (json_fault, xml_fault):
        error = judge(status, {}, content).error("Op")
        assert isinstance(error, AwsUnavailable | AwsRefused)
        assert str(error).isprintable()
