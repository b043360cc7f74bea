"""restJson1: what botocore writes is read, from path, query and body, and its parser reads the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode

import pytest
from botocore import parsers, serialize
from botocore.loaders import Loader
from botocore.model import ServiceModel
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.front.codecs.rest_json import RestJson
from agent.controlplane.front.codecs.table import Codecs
from agent.controlplane.front.errors import (
    ApiError,
    InvalidParameterException,
    UnknownOperationException,
)
from agent.controlplane.front.service_model import ApiModel

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = ServiceModel(Loader().load_service_model("scheduler", "service-2"), "scheduler")
MODEL = ApiModel(SERVICE)
CODEC = RestJson(MODEL)
NAME = st.from_regex(r"[0-9a-zA-Z\-_.]{1,20}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
ARN = "arn:aws:scheduler:us-east-1:000000000000:schedule-group/web"


@dataclass
class Sent:
    """A request as the server sees it."""

    method: str
    path: str
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""


def sent(operation: str, values: dict[str, Any]) -> tuple[Sent, bytes]:
    """Return a request as botocore sends it."""
    made = serialize.create_serializer("rest-json", include_validation=False).serialize_to_request(
        values, SERVICE.operation_model(operation)
    )
    body = made["body"]
    raw = body.encode() if isinstance(body, str) else bytes(body or b"")
    query = urlencode(made["query_string"], doseq=True)
    return Sent(made["method"], unquote(made["url_path"]), query, made["headers"]), raw


@given(
    name=NAME,
    group=NAME,
    text=TEXT,
    start=st.integers(0, 2**31),
    count=st.integers(1, 10),
)
def test_members_of_path_and_body(name: str, group: str, text: str, start: int, count: int) -> None:
    values = {
        "Name": name,
        "GroupName": group,
        "ScheduleExpression": text,
        "StartDate": start,
        "Target": {
            "Arn": text,
            "RoleArn": text,
            "EcsParameters": {"TaskDefinitionArn": text, "TaskCount": count},
        },
        "FlexibleTimeWindow": {"Mode": "OFF"},
    }
    request, body = sent("CreateSchedule", values)
    assert Codecs(MODEL).of(request).named(request) == "CreateSchedule"
    operation, read = CODEC.read(request, body)
    assert operation == "CreateSchedule"
    assert MODEL.check(operation, read) == values


@given(
    prefix=st.none() | TEXT,
    state=st.sampled_from([None, "ENABLED", "DISABLED"]),
    most=st.none() | st.integers(1, 100),
)
def test_members_of_the_query(prefix: str | None, state: str | None, most: int | None) -> None:
    values = {"NamePrefix": prefix, "State": state, "MaxResults": most, "GroupName": "g"}
    values = {name: value for name, value in values.items() if value is not None}
    operation, read = CODEC.read(*sent("ListSchedules", values))
    assert (operation, MODEL.check(operation, read)) == ("ListSchedules", values)


def test_an_arn_in_the_path_and_a_list_in_the_query() -> None:
    values = {"ResourceArn": ARN, "TagKeys": ["a", "b c", "d&e"]}
    request, body = sent("UntagResource", values)
    assert CODEC.read(request, body) == ("UntagResource", values)


def test_the_body_does_not_speak_for_path_and_query() -> None:
    request, _ = sent("GetSchedule", {"Name": "a"})
    body = b'{"Name": "b", "GroupName": "other"}'
    assert CODEC.read(request, body) == ("GetSchedule", {"Name": "a"})


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/schedules/a"), ("GET", "/"), ("POST", "/schedules"), ("GET", "/schedules/")],
)
def test_paths_of_nothing(method: str, path: str) -> None:
    with pytest.raises(UnknownOperationException):
        CODEC.named(Sent(method, path))


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"[" * 10_000, b"1"])
def test_bodies_that_are_none(body: bytes) -> None:
    with pytest.raises(ApiError):
        CODEC.read(Sent("POST", "/schedules/a"), body)


def test_a_number_that_is_none_is_refused_by_the_model() -> None:
    operation, read = CODEC.read(Sent("GET", "/schedules", "MaxResults=ten"), b"")
    with pytest.raises(ApiError, match="MaxResults"):
        MODEL.check(operation, read)


def test_answers_and_errors() -> None:
    shaped = MODEL.answer("GetScheduleGroup", {"Name": "g", "CreationDate": 5.5})
    reply = CODEC.answer("GetScheduleGroup", shaped, "r1")
    headers = {name.lower(): value for name, value in reply.headers.items()}
    parsed = parsers.create_parser("rest-json").parse(
        {"status_code": reply.status, "headers": headers, "body": reply.body},
        SERVICE.operation_model("GetScheduleGroup").output_shape,
    )
    assert (parsed["Name"], parsed["CreationDate"].timestamp()) == ("g", 5.5)
    assert parsed["ResponseMetadata"]["RequestId"] == "r1"
    reply = CODEC.error(InvalidParameterException("no näme"), "r2")
    headers = {name.lower(): value for name, value in reply.headers.items()}
    parsed = parsers.create_parser("rest-json").parse(
        {"status_code": reply.status, "headers": headers, "body": reply.body}, None
    )
    assert parsed["Error"] == {"Code": "ValidationException", "Message": "no näme"}
