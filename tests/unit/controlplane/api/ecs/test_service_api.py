from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from agent.controlplane.front.operators import Open
from agent.controlplane.front.service_api import ServiceApi
from tests.unit.controlplane.api.ecs.conftest import BODY_LIMIT_BYTES

if TYPE_CHECKING:
    from agent.controlplane.front.service_model import ApiModel
    from tests.unit.controlplane.api.ecs.conftest import Endpoint


async def test_answer_has_the_shape_of_the_protocol(endpoint: Endpoint) -> None:
    answer = await endpoint.raw("ListClusters", {})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-amz-json-1.1"
    assert len(answer.headers["x-amzn-RequestId"]) == 36
    assert answer.body == {"clusterArns": []}


async def test_empty_body_is_an_empty_request(endpoint: Endpoint) -> None:
    assert (await endpoint.raw("ListClusters", b"")).status == 200


@pytest.mark.parametrize("operation", ["Nope", "", "ListClusters.More", "listclusters"])
async def test_unknown_operation(endpoint: Endpoint, operation: str) -> None:
    answer = await endpoint.raw(operation, {})
    assert (answer.status, answer.error) == (400, "UnknownOperationException")
    assert answer.headers["x-amzn-ErrorType"] == "UnknownOperationException"


async def test_missing_target(endpoint: Endpoint) -> None:
    answer = await endpoint.raw(None, {})
    assert (answer.status, answer.error) == (400, "UnknownOperationException")


async def test_operation_of_ecs_that_is_not_here(endpoint: Endpoint) -> None:
    answer = await endpoint.raw("ListDaemons", {})
    assert (answer.status, answer.error) == (400, "UnsupportedFeatureException")
    assert "ListDaemons" in answer.body["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b'"text"',
        b"[1]",
        b"12",
        b"null",
        b'{"clusters": "\xff"}',
        b'{"clusters": ["\\ud800"]}',
        b"[" * 50_000,
        b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        b'{"clusters": {}}',
        b'{"clusters": "default"}',
        b'{"clusters": [1]}',
        b'{"clusters": [true]}',
        b'{"clusters": [["a"]]}',
    ],
)
async def test_what_is_no_request_is_a_serialization_error(endpoint: Endpoint, body: bytes) -> None:
    answer = await endpoint.raw("DescribeClusters", body)
    assert (answer.status, answer.error) == (400, "SerializationException")


@pytest.mark.parametrize("value", [True, 1.5, "1", [], {}, 2**31, -(2**31) - 1, 10**400])
async def test_integers_are_integers(endpoint: Endpoint, value: Any) -> None:
    answer = await endpoint.raw("ListClusters", json.dumps({"maxResults": value}).encode())
    assert (answer.status, answer.error) == (400, "SerializationException")


async def test_nulls_and_unknown_members_are_ignored(endpoint: Endpoint) -> None:
    body = {"clusters": [None, "default"], "include": None, "unheardOf": {"x": 1}}
    answer = await endpoint.raw("DescribeClusters", body)
    assert answer.status == 200
    assert len(answer.body["failures"]) == 1


async def test_missing_member_and_bad_enum_are_invalid_parameters(endpoint: Endpoint) -> None:
    for operation, body in (
        ("DeleteCluster", {}),
        ("DescribeClusters", {"include": ["NOPE"]}),
        ("PutAttributes", {"attributes": [{"value": "x"}]}),
        ("ListTaskDefinitions", {"status": "active"}),
    ):
        answer = await endpoint.raw(operation, body)
        assert (answer.status, answer.error) == (400, "InvalidParameterException"), operation


@pytest.mark.parametrize("content_type", ["application/json", "text/xml", "x"])
async def test_other_content_types_are_refused(endpoint: Endpoint, content_type: str) -> None:
    answer = await endpoint.raw("ListClusters", b"{}", content_type)
    assert (answer.status, answer.error) == (415, "UnsupportedMediaTypeException")


async def test_large_body_is_refused(endpoint: Endpoint) -> None:
    body = json.dumps({"clusters": ["x" * BODY_LIMIT_BYTES]}).encode()
    answer = await endpoint.raw("DescribeClusters", body)
    assert (answer.status, answer.error) == (413, "RequestEntityTooLargeException")


async def test_what_nobody_foresaw_is_a_server_exception_logged_once(endpoint: Endpoint) -> None:
    with capture_logs() as logs:
        answer = await endpoint.raw("DiscoverPollEndpoint", {})
    assert (answer.status, answer.error) == (500, "ServerException")
    request_id = answer.headers["x-amzn-RequestId"]
    assert request_id in answer.body["message"]
    assert "nobody foresaw" not in json.dumps(answer.body)
    assert [(log["event"], log["request_id"]) for log in logs] == [("call failed", request_id)]


async def test_closed_store_is_a_server_exception(endpoint: Endpoint) -> None:
    await endpoint.parts.store.close()
    answer = await endpoint.raw("ListClusters", {})
    assert (answer.status, answer.error) == (500, "ServerException")


async def test_client_that_goes_away_harms_nobody(endpoint: Endpoint) -> None:
    host, port = endpoint.url.removeprefix("http://").rstrip("/").split(":")
    for part in (
        b"POST / HTTP/1.1\r\n",
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-amz-json-1.1\r\n"
            b"X-Amz-Target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n"
            b"Content-Length: 100\r\n\r\n{"
        ),
    ):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(part)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await endpoint.raw("ListClusters", {})).status == 200


def test_handlers_must_be_operations_of_ecs(endpoint: Endpoint, model: ApiModel) -> None:
    handler = endpoint.handlers["ListClusters"]
    with pytest.raises(ValueError, match="MakeCoffee"):
        ServiceApi(endpoint.parts, model, {"MakeCoffee": handler}, operators=Open(), check=print)
