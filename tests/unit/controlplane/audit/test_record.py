"""Records of all operations: nothing secret is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from agent.controlplane.api.table import APIS
from agent.controlplane.audit.masking import HIDDEN, Masked
from agent.controlplane.audit.record import (
    PART_MOST_BYTES,
    AuditedCall,
    encode,
    is_read,
    is_recorded,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "c4n4ry-of-a-secret"
UNMARKED = {
    "environment",
    "secretString",
    "SecretBinary",
    "SecretAccessKey",
    "SessionToken",
    "ClientSecret",
    "tokenValue",
    "Input",
}
"""Members with secrets that some models do not mark."""


def call(operation: str, **more: Any) -> AuditedCall:
    values: dict[str, Any] = {
        "at": 1_767_323_045.0,
        "source": "ecs.amazonaws.com",
        "operation": operation,
        "identity": {"type": "Root"},
        "region": "us-east-1",
        "account": "1",
        "peer": "10.0.0.1",
        "user_agent": "a" * 1000,
        "request_id": "id",
    }
    return AuditedCall(**(values | more))


def filled(shape: Any, seen: tuple[str, ...] = (), *, is_secret: bool = False) -> Any:
    """Return a value of a shape with every member; secret ones have the canary in every text."""
    if shape.metadata.get("sensitive"):
        is_secret = True
    if shape.name in seen:
        return None
    seen = (*seen, shape.name)
    match shape.type_name:
        case "structure":
            return {
                name: filled(member, seen, is_secret=is_secret or name in UNMARKED)
                for name, member in shape.members.items()
            }
        case "list":
            return [filled(shape.member, seen, is_secret=is_secret)]
        case "map":
            options = {"splunk-token": CANARY, "o": f"user=me,password={CANARY}", "plain": "seen"}
            if shape.value.type_name == "string":
                return options if not is_secret else {"a": CANARY}
            return {"a": filled(shape.value, seen, is_secret=is_secret)}
        case "string":
            return CANARY if is_secret else "seen"
        case "blob":
            return CANARY.encode()
        case _:
            return 1


def operations() -> Iterator[tuple[str, Any]]:
    for api in APIS:
        service = ServiceModel(Loader().load_service_model(api.service, "service-2"), api.service)
        for operation in sorted(api.handlers()):
            yield f"{api.service}.{operation}", service.operation_model(operation)


def test_no_record_of_any_operation_has_a_secret() -> None:
    hidden = set()
    for name, model in operations():
        asked = filled(model.input_shape) if model.input_shape else None
        answered = filled(model.output_shape) if model.output_shape else None
        made = encode(
            record(
                call(
                    model.name,
                    asked=asked,
                    answered=answered,
                    asked_shape=model.input_shape,
                    answered_shape=model.output_shape,
                    error="SomeException",
                    error_text=f"the value {CANARY} is not valid",
                )
            )
        )
        if CANARY in str(asked):
            assert CANARY.encode() not in made, name
            hidden.add(name)
        elif asked is not None:
            assert HIDDEN.encode() not in made.split(b"responseElements")[0], name
    assert {
        "ecs.RegisterTaskDefinition",
        "ecs.RunTask",
        "ecs.StartTask",
        "ssm.PutParameter",
        "secretsmanager.CreateSecret",
        "secretsmanager.PutSecretValue",
        "events.PutTargets",
        "scheduler.CreateSchedule",
        "elbv2.CreateListener",
    } <= hidden


def test_the_shape_of_a_record() -> None:
    made = record(
        call("StopTask", error="ClusterNotFoundException", error_text="Cluster not found.")
    )
    event_id = made.pop("eventID")
    assert len(event_id) == 36
    assert made == {
        "eventVersion": "1.09",
        "userIdentity": {"type": "Root"},
        "eventTime": "2026-01-02T03:04:05Z",
        "eventSource": "ecs.amazonaws.com",
        "eventName": "StopTask",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "10.0.0.1",
        "userAgent": "a" * 256,
        "requestParameters": None,
        "responseElements": None,
        "requestID": "id",
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": "1",
        "eventCategory": "Management",
        "errorCode": "ClusterNotFoundException",
        "errorMessage": "Cluster not found.",
    }


def test_resources_are_those_of_request_and_response() -> None:
    arns = ["arn:aws:ecs:us-east-1:1:service/c/web", "arn:aws:iam::1:role/r"]
    target = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/t/1"
    made = record(
        call(
            "UpdateService",
            plain={"service": arns[0], "more": [{"role": arns[1]}, target, "arn:x"]},
        )
    )
    assert made["resources"] == [
        {"ARN": arns[0], "accountId": "1", "type": "AWS::ECS::Service"},
        {"ARN": arns[1], "accountId": "1", "type": "AWS::IAM::Role"},
        {"ARN": target, "accountId": "1", "type": "AWS::ElasticLoadBalancingV2::TargetGroup"},
    ]


def test_of_a_large_request_only_the_size_is_recorded() -> None:
    made = record(call("UpdateService", plain={"x": "y" * PART_MOST_BYTES}))
    assert made["requestParameters"] == {
        "omitted": True,
        "originalSize": PART_MOST_BYTES + 8,
        "reason": "fieldOverSize",
    }


def test_a_request_that_fits_no_shape_shows_nothing() -> None:
    model = ServiceModel(Loader().load_service_model("ecs", "service-2"), "ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    for wrong in ([CANARY], {"containerDefinitions": {"a": CANARY}}, {"family": {"x": [CANARY]}}):
        assert CANARY not in str(Masked().take(shape, wrong))


@pytest.mark.parametrize(
    ("operation", "recorded", "read"),
    [
        ("CreateService", True, False),
        ("ExecuteCommand", True, False),
        ("AssumeRole", True, False),
        ("TagResource", True, False),
        ("GetSecretValue", True, True),
        ("GetParameters", True, True),
        ("DescribeTasks", False, True),
        ("ListTasks", False, True),
        ("GetCallerIdentity", False, True),
        ("LookupEvents", False, True),
        ("PutLogEvents", False, False),
        ("SubmitTaskStateChange", False, False),
        ("", False, False),
    ],
)
def test_which_calls_are_recorded(operation: str, recorded: bool, read: bool) -> None:
    assert (is_recorded(operation), is_read(operation)) == (recorded, read)
