"""The CloudWatch API of a real metric store on the loopback, with botocore's client in each protocol."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiohttp import web
from botocore import parsers, serialize
from botocore.config import Config
from botocore.exceptions import ClientError

from agent.controlplane.api.table import METRICS
from agent.controlplane.front.operators import Open
from agent.controlplane.front.service_api import ServiceApi
from agent.controlplane.metric_store import scopes
from agent.controlplane.metric_store.roll_up import Facts
from agent.controlplane.metric_store.store import MetricStore
from agent.controlplane.parts import Parts
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.statistics import StatisticSet, one
from tests.support.ecs_shapes import StrictModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.front.service_model import ApiModel

NOW_S = 1_700_000_400
"""A whole multiple of five minutes."""
PROTOCOLS = ("json", "query", "smithy-rpc-v2-cbor")


@dataclass
class Metrics:
    """The API under test."""

    url: str
    store: MetricStore
    clients: dict[str, Any]
    protocol: str = "json"

    async def call(self, operation: str, **request: Any) -> Any:
        """Call through boto3, as an operator would."""
        client = self.clients[self.protocol]
        return await asyncio.to_thread(lambda: getattr(client, operation)(**request))

    async def refused(self, operation: str, **request: Any) -> tuple[str, str]:
        """Call through boto3 and return the code and the text of the error."""
        with pytest.raises(ClientError) as caught:
            await self.call(operation, **request)
        error = caught.value.response["Error"]
        assert caught.value.response["ResponseMetadata"]["RequestId"]
        return error["Code"], error["Message"]

    async def values(self, *queries: dict[str, Any], **more: Any) -> dict[str, list[float]]:
        """Return the values of queries by their ids, the oldest first."""
        asked = {"StartTime": NOW_S - 600, "EndTime": NOW_S, "ScanBy": "TimestampAscending"} | more
        answer = await self.call("get_metric_data", MetricDataQueries=list(queries), **asked)
        return {one["Id"]: one["Values"] for one in answer["MetricDataResults"]}


def stat(id_: str, name: str, stat: str = "Average", period: int = 60, **dimensions: str) -> Any:
    """Return a query for a metric of ECS."""
    namespace = (
        "AWS/ECS" if name.endswith(("Utilization", "Reservation")) else "ECS/ContainerInsights"
    )
    return {
        "Id": id_,
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
            },
            "Period": period,
            "Stat": stat,
        },
    }


def client_of(url: str, protocol: str) -> Any:
    """Return a client that speaks one of the protocols of the model."""
    client = boto3.client(
        "cloudwatch",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="dummy",
        aws_secret_access_key="dummy",
        config=Config(retries={"total_max_attempts": 1}),
    )
    model = client.meta.service_model
    assert model.resolved_protocol == "json", "what boto3 chooses"
    model.__dict__["resolved_protocol"] = protocol
    client._serializer = serialize.create_serializer(protocol)
    client._response_parser = parsers.create_parser(protocol)
    client._endpoint._response_parser_factory = parsers.ResponseParserFactory()
    return client


def points() -> dict[int, dict[scopes.Scope, dict[int, StatisticSet]]]:
    """Ten minutes up to now: the task works from nothing to nine tenths of what it reserves."""
    cluster, web = scopes.cluster("main"), scopes.service("main", "web")
    task = scopes.task("main", "abc", "fam")
    found = {}
    for number in range(10):
        share = float(10 * number)
        service_row = {1: StatisticSet(share, share + 5, 2 * share, 2), 5: one(share), 13: one(2.0)}
        found[NOW_S // 60 - 10 + number] = {
            cluster: {1: one(share / 2), 3: one(25.0), 5: one(share), 6: one(200.0)},
            web: service_row,
            task: {5: one(share), 9: one(1.5)},
        }
    return found


@pytest.fixture(scope="session")
def model() -> ApiModel:
    return StrictModel.load("cloudwatch")


@pytest.fixture
async def metrics(tmp_path: Path, model: ApiModel) -> AsyncIterator[Metrics]:
    async def read_facts() -> Facts:
        return Facts()

    keys = await SqliteStore.open(tmp_path / "control.db")
    store = await MetricStore.open(None, read_facts, clock=lambda: NOW_S)
    for at, rows in points().items():
        await store._do(store._file.add, at, rows)
    api = ServiceApi(
        Parts(store=keys, clock=lambda: NOW_S, metrics=store),
        model,
        METRICS.handlers(),
        operators=Open(),
        check=METRICS.check,
    )
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}/"
    clients = await asyncio.to_thread(lambda: {name: client_of(url, name) for name in PROTOCOLS})
    yield Metrics(url, store, clients)
    for client in clients.values():
        with contextlib.suppress(Exception):
            await asyncio.to_thread(client.close)
    await runner.cleanup()
    await store.close()
    await keys.close()
