"""Clients of AWS's own SDK that call a control endpoint of a test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from tests.support.control_endpoint import Endpoint


class AwsClient:
    """Calls one service; errors must be ones that the service has for the call."""

    def __init__(self, client: Any, unlisted: frozenset[str]) -> None:
        self._client = client
        self._unlisted = unlisted

    @classmethod
    async def of(
        cls, endpoint: Endpoint, service: str, *, unlisted: frozenset[str] = frozenset()
    ) -> AwsClient:
        """Return a client; ``unlisted`` are errors that no model lists, though the service gives them."""
        client = await asyncio.to_thread(
            lambda: boto3.client(
                service,
                endpoint_url=endpoint.url,
                region_name="us-east-1",
                aws_access_key_id="dummy",
                aws_secret_access_key="dummy",
                # Some calls of Cloud Map would go to a host of another name.
                config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
            )
        )
        return cls(client, unlisted)

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Make a call, by boto3's name of it."""
        method = getattr(self._client, operation)
        answer: dict[str, Any] = await asyncio.to_thread(lambda: method(**request))
        answer.pop("ResponseMetadata")
        return answer

    async def wait(self, waiter: str, **request: Any) -> None:
        """Use one of boto3's waiters, which asks once here: what it waits for is there already."""
        found = self._client.get_waiter(waiter)
        once = {"Delay": 1, "MaxAttempts": 1}
        await asyncio.to_thread(lambda: found.wait(**request, WaiterConfig=once))

    async def refused(self, operation: str, **request: Any) -> tuple[str, str]:
        """Make a call and return name and text of its error."""
        with pytest.raises(ClientError) as caught:
            await self.call(operation, **request)
        error = caught.value.response["Error"]
        meta = self._client.meta
        model = meta.service_model.operation_model(meta.method_to_api_mapping[operation])
        listed = {shape.name for shape in model.error_shapes}
        assert error["Code"] in listed | self._unlisted, error
        return error["Code"], error["Message"]

    def close(self) -> None:
        """Close its connections."""
        self._client.close()
