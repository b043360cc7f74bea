"""Another API is served by a line in the table: routed, checked and refused by its own model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from agent.controlplane.api import table
from agent.controlplane.front import applications
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controlplane.parts import Parts


async def _describe(_parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    return {"repositories": [{"repositoryName": request["registryId"], "unknown": 1}]}


IMAGES = table.Api("ecr", lambda: {"DescribeRepositories": _describe})


def _use(url: str) -> None:
    settings = {
        "endpoint_url": url,
        "region_name": "us-east-1",
        "aws_access_key_id": "x",
        "aws_secret_access_key": "x",
    }
    images, ecs = boto3.client("ecr", **settings), boto3.client("ecs", **settings)
    try:
        found = images.describe_repositories(registryId="web\t")["repositories"]
        assert found == [{"repositoryName": "web\t"}]
        with pytest.raises(ClientError, match="ListImages is not supported by this"):
            images.list_images(repositoryName="web")
        assert ecs.list_clusters()["clusterArns"]
    finally:
        images.close()
        ecs.close()


async def test_a_second_api_beside_ecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applications, "APIS", (*table.APIS, IMAGES))
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        await asyncio.to_thread(_use, endpoint.url)
