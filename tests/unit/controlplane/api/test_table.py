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


async def _list_rules(_parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    return {"Rules": [{"Name": request["NamePrefix"], "unknown": 1}]}


EVENTS = table.Api("events", lambda: {"ListRules": _list_rules})


def _use(url: str) -> None:
    settings = {
        "endpoint_url": url,
        "region_name": "us-east-1",
        "aws_access_key_id": "x",
        "aws_secret_access_key": "x",
    }
    events, ecs = boto3.client("events", **settings), boto3.client("ecs", **settings)
    try:
        assert events.list_rules(NamePrefix="web\t")["Rules"] == [{"Name": "web\t"}]
        with pytest.raises(ClientError, match="DescribeRule is not supported by this"):
            events.describe_rule(Name="web")
        assert ecs.list_clusters()["clusterArns"]
    finally:
        events.close()
        ecs.close()


async def test_a_second_api_beside_ecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applications, "APIS", (*table.APIS, EVENTS))
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        await asyncio.to_thread(_use, endpoint.url)
