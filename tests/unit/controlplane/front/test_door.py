"""Clients of other AWS services get an error that they can read, from a real control endpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from agent.controlplane.front import address
from agent.controlplane.log_settings import LogSettings
from tests.support.control_endpoint import Endpoint, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

VARIABLES = [
    f"AWS_ENDPOINT_URL_{service}"
    for service in (
        *("ECS", "CLOUDWATCH_LOGS", "SSM", "SECRETS_MANAGER", "CLOUDWATCH", "EC2"),
        *("APPLICATION_AUTO_SCALING", "SCHEDULER", "EVENTBRIDGE", "SERVICEDISCOVERY"),
        *("ELASTIC_LOAD_BALANCING_V2", "STS", "IAM", "CLOUDTRAIL"),
    )
]
"""Of all services that control serves."""


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        yield running


async def refused(
    endpoint: Endpoint, service: str, operation: str, *, sign: bool = True, **request: Any
) -> tuple[str, str]:
    def call() -> tuple[str, str]:
        signature = {} if sign else {"signature_version": UNSIGNED}
        client = boto3.client(
            service,
            endpoint_url=endpoint.url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 1}, **signature),
        )
        try:
            with pytest.raises(ClientError) as caught:
                getattr(client, operation)(**request)
        finally:
            client.close()
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    return await asyncio.to_thread(call)


@pytest.mark.parametrize(
    ("service", "operation", "request_", "code", "name"),
    [
        ("sns", "list_topics", {}, "InvalidAction", "sns"),
        ("rds", "describe_db_instances", {}, "InvalidAction", "rds"),
        ("autoscaling", "describe_auto_scaling_groups", {}, "InvalidAction", "autoscaling"),
        ("cloudformation", "list_stacks", {}, "InvalidAction", "cloudformation"),
        ("glue", "get_databases", {}, "UnknownOperationException", "glue"),
        ("ecr", "describe_repositories", {}, "UnknownOperationException", "ecr"),
        ("efs", "describe_file_systems", {}, "UnknownOperationException", "elasticfilesystem"),
        ("lambda", "list_functions", {}, "UnknownOperationException", "lambda"),
        ("s3", "list_buckets", {}, "NotImplemented", "s3"),
        ("s3", "get_object", {"Bucket": "b", "Key": "k/ä"}, "NotImplemented", "s3"),
    ],
)
async def test_other_services(
    endpoint: Endpoint, service: str, operation: str, request_: dict[str, Any], code: str, name: str
) -> None:
    got, text = await refused(endpoint, service, operation, **request_)
    assert got == code
    assert text == (
        "This endpoint serves Amazon ECS, Amazon CloudWatch Logs, Amazon SSM, AWS Secrets Manager, "
        "CloudWatch, Amazon EC2, Application Auto Scaling, Amazon EventBridge Scheduler, "
        "Amazon EventBridge, ServiceDiscovery, Elastic Load Balancing v2, AWS STS, IAM and CloudTrail, "
        f"not {name}. Set "
        f"{', '.join(VARIABLES[:-1])} and {VARIABLES[-1]} instead of AWS_ENDPOINT_URL, so that nothing else is "
        "sent here."
    )


async def test_the_owner_is_told_of_every_service_but_logs_that_are_off(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, logs=LogSettings(are_kept=False)):
        told = await asyncio.to_thread(address.read, tmp_path)
    assert told is not None
    assert told.endpoint_variables == [each for each in VARIABLES if not each.endswith("_LOGS")]


async def test_calls_that_are_not_signed(endpoint: Endpoint) -> None:
    code, text = await refused(
        endpoint,
        "sns",
        "list_topics",
        sign=False,
    )
    assert code == "MissingAuthenticationToken"
    assert text.startswith(
        "Missing Authentication Token. This endpoint serves Amazon ECS, Amazon CloudWatch Logs, Amazon SSM, AWS Secrets Manager, "
        "CloudWatch, Amazon EC2, Application Auto Scaling, Amazon EventBridge Scheduler, "
        "Amazon EventBridge, ServiceDiscovery, Elastic Load Balancing v2, AWS STS, IAM and CloudTrail, "
        "not a service"
    )


async def test_ecs_is_served_signed_or_not(endpoint: Endpoint) -> None:
    async with endpoint.session.post(f"{endpoint.url}/", data=b"{}") as answer:
        assert (answer.status, (await answer.json(content_type=None))["__type"]) == (
            400,
            "UnknownOperationException",
        )
    await endpoint.call("CreateCluster")
    assert await refused(endpoint, "ecs", "describe_tasks", tasks=[]) == (
        "InvalidParameterException",
        "Tasks cannot be empty.",
    )
    assert await refused(endpoint, "ecs", "describe_tasks", sign=False, tasks=[]) == (
        "InvalidParameterException",
        "Tasks cannot be empty.",
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/nothing"), ("POST", "/x"), ("PUT", "/v1/instances")],
)
async def test_what_no_client_of_aws_sends(endpoint: Endpoint, method: str, path: str) -> None:
    async with endpoint.session.request(method, f"{endpoint.url}{path}") as answer:
        assert answer.status == 404
