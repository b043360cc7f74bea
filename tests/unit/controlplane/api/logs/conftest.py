"""The CloudWatch Logs API of a real log store on the loopback, and boto3 as its client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from botocore.model import ServiceModel

from agent.controlplane.api.table import LOGS
from agent.controlplane.front.operators import Open
from agent.controlplane.front.service_api import ServiceApi
from agent.controlplane.log_store.contract import Bounds
from agent.controlplane.log_store.store import LogStore
from agent.controlplane.parts import Parts
from agent.controlplane.store.sqlite import SqliteStore
from tests.support.ecs_shapes import StrictModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.front.service_model import ApiModel

NOW_MS = 1_700_000_000_000
_OF_ANY_CALL = frozenset({"SerializationException", "UnsupportedFeatureException"})


@cache
def errors_of(operation: str) -> frozenset[str]:
    """Return the names of the errors that a call can have."""
    service = ServiceModel(Loader().load_service_model("logs", "service-2"), "logs")
    return _OF_ANY_CALL | {s.name for s in service.operation_model(operation).error_shapes}


@dataclass
class Logs:
    """The API under test."""

    url: str
    store: LogStore
    client: Any
    now: list[float] = field(default_factory=lambda: [NOW_MS / 1000])

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

    async def put(self, *messages: str, at: int = NOW_MS, stream: str = "s") -> Any:
        """Put messages a millisecond apart."""
        events = [{"timestamp": at + n, "message": text} for n, text in enumerate(messages)]
        return await self.call(
            "put_log_events", logGroupName="g", logStreamName=stream, logEvents=events
        )


@pytest.fixture(scope="session")
def model() -> ApiModel:
    return StrictModel.load("logs")


@pytest.fixture
async def logs(tmp_path: Path, model: ApiModel) -> AsyncIterator[Logs]:
    now = [NOW_MS / 1000]
    keys = await SqliteStore.open(tmp_path / "control.db")
    bounds = Bounds(keep_free_bytes=0)
    store = await LogStore.open(tmp_path / "logs", bounds, clock=lambda: now[0])
    parts = Parts(store=keys, clock=lambda: now[0], log_store=store)
    api = ServiceApi(
        parts,
        model,
        LOGS.handlers(),
        operators=Open(),
        check=LOGS.check,
        body_limit_bytes=LOGS.body_limit_bytes,
    )
    app = web.Application()
    app.router.add_post("/", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}/"
    client = await asyncio.to_thread(
        lambda: boto3.client(
            "logs",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="dummy",
            aws_secret_access_key="dummy",
            config=Config(
                retries={"total_max_attempts": 1},
                parameter_validation=False,
                inject_host_prefix=False,
            ),
        )
    )
    yield Logs(url, store, client, now)
    await asyncio.to_thread(client.close)
    await runner.cleanup()
    await store.close()
    await keys.close()


@pytest.fixture
async def group(logs: Logs) -> Logs:
    """The API with a group ``g`` that has a stream ``s``."""
    await logs.call("create_log_group", logGroupName="g")
    await logs.call("create_log_stream", logGroupName="g", logStreamName="s")
    return logs
