"""A real ECS API on the loopback with a real store, and the clients that operators use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError

from agent.controlplane import records
from agent.controlplane.api.ecs import characters, operations
from agent.controlplane.front.operators import Open
from agent.controlplane.front.service_api import ServiceApi
from agent.controlplane.names import new_id
from agent.controlplane.parts import Handler, Parts
from agent.controlplane.records import (
    AliveRecord,
    AssignRecord,
    AttributeRecord,
    InstanceRecord,
    TaskRecord,
)
from agent.controlplane.store.contract import Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import Gpu, HostResources, Needs
from tests.support.control_endpoint import definition
from tests.support.ecs_shapes import TARGET_PREFIX, StrictModel, errors_of
from tests.unit.controlplane.api.ecs.service_shop import Shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.front.service_model import ApiModel

BODY_LIMIT_BYTES = 100_000


@dataclass
class Answer:
    """What a raw request got."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def error(self) -> str:
        return str(self.body.get("__type", ""))


@dataclass
class Endpoint:
    """The API under test."""

    url: str
    parts: Parts
    handlers: dict[str, Handler]
    session: aiohttp.ClientSession
    client: Any
    now: list[float] = field(default_factory=lambda: [1_700_000_000.0])

    async def call(self, operation: str, **request: Any) -> Any:
        """Call through boto3, as an operator would."""
        return await asyncio.to_thread(lambda: getattr(self.client, operation)(**request))

    async def refused(self, operation: str, **request: Any) -> tuple[str, str]:
        """Call through boto3 and return the name and the text of the error."""
        with pytest.raises(ClientError) as caught:
            await self.call(operation, **request)
        error = caught.value.response["Error"]
        api_name = self.client.meta.method_to_api_mapping[operation]
        assert error["Code"] in errors_of(api_name), "an error that this call does not have"
        return error["Code"], error["Message"]

    async def raw(
        self,
        operation: str | None,
        body: bytes | Any,
        content_type: str = "application/x-amz-json-1.1",
    ) -> Answer:
        """Send what no AWS client would."""
        headers = {"Content-Type": content_type}
        if operation is not None:
            headers["X-Amz-Target"] = f"{TARGET_PREFIX}.{operation}"
        data = body if isinstance(body, bytes) else aiohttp.JsonPayload(body)
        async with self.session.post(self.url, data=data, headers=headers) as response:
            return Answer(
                response.status, dict(response.headers), await response.json(content_type=None)
            )

    async def add_instance(self, cluster: str = "default", **changes: Any) -> InstanceRecord:
        """Register a host, as the agents' wire would."""
        instance_id = new_id()
        values: dict[str, Any] = {
            "id": instance_id,
            "arn": self.parts.names.instance(cluster, instance_id),
            "cluster": cluster,
            "client_token": instance_id,
            "resources": HostResources(
                cpu_units=4096,
                memory_mib=8192,
                reserved_tcp=frozenset({22, 2375}),
                gpus=(Gpu(uuid="GPU-a"), Gpu(uuid="GPU-b")),
                engine_version="20.10.24",
            ),
            "attributes": {
                "ecs.os-type": AttributeRecord(value="linux"),
                "ecs.capability.task-eni": AttributeRecord(),
            },
            "agent_version": "0.1.0",
            "registered_at": 1_700_000_000.5,
        }
        record = InstanceRecord(**(values | changes))
        lease = await self.parts.store.grant_lease(60)
        await self.parts.store.txn(
            [],
            [
                Put(records.instance_key(cluster, instance_id), records.encode(record)),
                Put(
                    records.alive_key(instance_id), records.encode(AliveRecord(generation=1)), lease
                ),
            ],
        )
        return record

    async def add_task(
        self, instance: InstanceRecord, *, last_status: str = "RUNNING", **needs: Any
    ) -> TaskRecord:
        """Put a task on a host, as RunTask would."""
        task_id = new_id()
        names, cluster = self.parts.names, instance.cluster
        task = TaskRecord(
            id=task_id,
            arn=names.task(cluster, task_id),
            cluster=cluster,
            task_definition_arn=names.task_definition("web", 1),
            family="web",
            revision=1,
            instance_id=instance.id,
            instance_arn=instance.arn,
            last_status=last_status,
            created_at=self.now[0],
            needs=Needs(**needs),
        )
        puts = [Put(records.task_key(cluster, task_id), records.encode(task))]
        if last_status != "STOPPED":
            assignment = AssignRecord(task_arn=task.arn, cluster=cluster)
            puts.append(
                Put(records.assignment_key(instance.id, task_id), records.encode(assignment))
            )
        await self.parts.store.txn([], puts)
        return task


@pytest.fixture(scope="session")
def model() -> ApiModel:
    return StrictModel.load("ecs")


@pytest.fixture
async def endpoint(tmp_path: Path, model: ApiModel) -> AsyncIterator[Endpoint]:
    store = await SqliteStore.open(tmp_path / "control.db")
    now = [1_700_000_000.0]
    parts = Parts(store=store, clock=lambda: now[0])
    handlers: dict[str, Handler] = dict(operations.handlers())

    async def fail(_: Parts, __: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("nobody foresaw this")

    handlers["DiscoverPollEndpoint"] = fail
    api = ServiceApi(
        parts,
        model,
        handlers,
        operators=Open(),
        check=characters.check,
        body_limit_bytes=BODY_LIMIT_BYTES,
    )
    app = web.Application()
    app.router.add_post("/", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}/"
    client = await asyncio.to_thread(
        lambda: boto3.client(
            "ecs",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="dummy",
            aws_secret_access_key="dummy",
            config=Config(retries={"total_max_attempts": 1}),
        )
    )
    async with aiohttp.ClientSession() as session:
        yield Endpoint(url, parts, handlers, session, client, now)
    await asyncio.to_thread(client.close)
    await runner.cleanup()
    await store.close()


@pytest.fixture
async def cluster(endpoint: Endpoint) -> str:
    await endpoint.call("create_cluster")
    return "default"


@pytest.fixture
async def shop(endpoint: Endpoint, cluster: str) -> Shop:
    made = Shop(endpoint)
    await made.add_host()
    await endpoint.call("register_task_definition", **definition())
    return made
