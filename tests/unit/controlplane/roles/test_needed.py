from __future__ import annotations

from typing import Any

import pytest

from agent.controlplane.roles.needed import EcrImage, NeededRole, ecr_image, needed
from agent.model.payload import RoleType

TASK, EXECUTION = "arn:aws:iam::1:role/task", "arn:aws:iam::1:role/execution"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1"


def body(**container: Any) -> dict[str, Any]:
    return {
        "taskRoleArn": TASK,
        "executionRoleArn": EXECUTION,
        "containerDefinitions": [
            {"name": "a", "image": "busybox"},
            {"name": "b", "image": "busybox"} | container,
        ],
    }


APPLICATION = NeededRole(RoleType.APPLICATION, TASK)


def test_the_task_role_is_always_needed_and_the_execution_role_is_not() -> None:
    assert needed(body(), ()) == [APPLICATION]
    assert needed({"containerDefinitions": [{"name": "a", "image": ECR}]}, ()) == []


@pytest.mark.parametrize(
    ("container", "used_by"),
    [
        ({"image": ECR}, "the image of container 'b'"),
        ({"secrets": [{"name": "KEY", "valueFrom": "x"}]}, "secret 'KEY' of container 'b'"),
        (
            {"logConfiguration": {"secretOptions": [{"name": "token", "valueFrom": "x"}]}},
            "log option 'token' of container 'b'",
        ),
        (
            {"repositoryCredentials": {"credentialsParameter": "x"}},
            "'repositoryCredentials' of container 'b'",
        ),
        (
            {"environmentFiles": [{"value": "arn:aws:s3:::b/k", "type": "s3"}]},
            "'environmentFiles' of container 'b'",
        ),
        (
            {"firelensConfiguration": {"type": "fluentbit", "options": {"config-file-type": "s3"}}},
            "the log router's configuration of container 'b'",
        ),
    ],
)
def test_what_needs_the_execution_role(container: dict[str, Any], used_by: str) -> None:
    expected = NeededRole(RoleType.EXECUTION, EXECUTION, used_by)
    assert needed(body(**container), ()) == [APPLICATION, expected]


@pytest.mark.parametrize(
    ("driver", "options", "keeps_logs", "count"),
    [
        ("awslogs", {"awslogs-group": "g"}, True, 1),
        ("awslogs", {"awslogs-group": "g"}, False, 2),
        ("awslogs", {"awslogs-endpoint": "http://here"}, False, 1),
        ("json-file", {}, False, 1),
    ],
)
def test_logs_need_the_role_where_they_go_to_cloudwatch(
    driver: str, options: dict[str, str], keeps_logs: bool, count: int
) -> None:
    container = {"logConfiguration": {"logDriver": driver, "options": options}}
    assert len(needed(body(**container), (), keeps_logs=keeps_logs)) == count


def test_what_control_keeps_needs_no_role() -> None:
    container = {
        "secrets": [{"name": "KEY", "valueFrom": "x"}],
        "logConfiguration": {"secretOptions": [{"name": "token", "valueFrom": "y"}]},
        "repositoryCredentials": {"credentialsParameter": "z"},
    }
    assert needed(body(**container), {"x", "y", "z"}) == [APPLICATION]
    assert len(needed(body(**container), {"x", "y"})) == 2


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        (ECR, EcrImage("123456789012", "eu-west-1")),
        (
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com/a/b@sha256:00",
            EcrImage("123456789012", "us-gov-west-1"),
        ),
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/a",
            EcrImage("123456789012", "cn-north-1"),
        ),
        ("123456789012.dkr-ecr.eu-west-1.on.aws/a", EcrImage("123456789012", "eu-west-1")),
        ("public.ecr.aws/a/b", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", None),
        ("evil.example/123456789012.dkr.ecr.eu-west-1.amazonaws.com/a", None),
        ("busybox", None),
    ],
)
def test_which_images_are_in_ecr(image: str, registry: EcrImage | None) -> None:
    assert ecr_image(image) == registry
