"""The calls of programs that watch a fleet, at a real control endpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client.openmetrics import parser as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from agent.controlplane import host_ports
from agent.controlplane.monitoring import targets
from agent.model.changes import ContainerChange
from agent.model.task import NetworkBinding
from tests.support.control_endpoint import (
    CAPABILITIES,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

TOKEN = "token-of-a-reader-0123456789"  # noqa: S105 - of tests
PATHS = ("/metrics", "/prometheus/tasks", "/prometheus/agents")


def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "metrics.tokens"
    file.touch(mode=0o600)
    file.write_text(f"{TOKEN}\n")
    return file


async def get(endpoint: Endpoint, path: str, **headers: str) -> aiohttp.ClientResponse:
    async with endpoint.session.get(f"{endpoint.url}{path}", headers=headers) as answer:
        await answer.read()
        return answer


async def values(endpoint: Endpoint) -> dict[tuple[str, frozenset[str]], float]:
    page = await (await get(endpoint, "/metrics")).text()
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def test_a_fleet_is_counted_and_listed(tmp_path: Path) -> None:
    labels = {"ECS_PROMETHEUS_EXPORTER_PORT": "9100"}
    container = {"name": "main", "image": "img", "cpu": 64, "memory": 64, "dockerLabels": labels}
    reach = {host_ports.HOST_ADDRESS: "192.0.2.7", targets.METRICS_ADDRESS: "192.0.2.7:51680"}
    async with control_endpoint(tmp_path) as endpoint:
        host = ScriptedAgent(endpoint, attributes=CAPABILITIES | reach)
        await host.register()
        await endpoint.call(
            "RegisterTaskDefinition", **definition(containerDefinitions=[container])
        )
        (task, _) = (await endpoint.call("RunTask", taskDefinition="web", count=2))["tasks"]
        await endpoint.call("RunTask", taskDefinition="web", overrides={"memory": "100000"})
        assert await (await get(endpoint, "/prometheus/tasks")).json() == []
        poll = asyncio.create_task(host.poll(wait_s=20, after=10_000))
        binding = NetworkBinding(container_port=9100, host_port=32768)
        running = ContainerChange(
            container_name="main", status="RUNNING", network_bindings=[binding]
        )
        await host.report(a_report(task["taskArn"], "RUNNING", containers=[running]))

        (target,) = await (await get(endpoint, "/prometheus/tasks?cluster=default")).json()
        assert target["targets"] == ["192.0.2.7:32768"]
        assert target["labels"]["__meta_ecs_task_arn"] == task["taskArn"]
        assert await (await get(endpoint, "/prometheus/tasks?cluster=other")).json() == []
        (agent,) = await (await get(endpoint, "/prometheus/agents")).json()
        assert agent["targets"] == ["192.0.2.7:51680"]
        assert agent["labels"]["__meta_ecs_agent_connected"] == "true"

        page = await values(endpoint)
        poll.cancel()
        assert page["ecs_control_hosts", frozenset({"default", "ACTIVE", "true"})] == 1
        assert page["ecs_control_tasks", frozenset({"default", "RUNNING"})] == 1
        assert page["ecs_control_tasks", frozenset({"default", "PENDING"})] == 1
        assert page["ecs_control_tasks", frozenset({"default", "STOPPED"})] == 0
        assert page["ecs_control_scrape_targets", frozenset({"listed"})] == 1
        assert page["ecs_control_tasks_placed_total", frozenset()] == 2
        assert page["ecs_control_tasks_unplaced_total", frozenset()] == 1
        assert page["ecs_control_placement_duration_seconds_count", frozenset()] == 2
        assert page["ecs_control_api_requests_total", frozenset({"ecs", "RunTask", "200"})] == 2
        assert page["ecs_control_api_requests_total", frozenset({"agents", "changes", "200"})] == 1
        assert page["ecs_control_api_request_duration_seconds_count", frozenset({"ecs"})] == 3
        assert page["ecs_control_store_up", frozenset()] == 1
        assert page["ecs_control_store_revision", frozenset()] > 5
        assert page["process_open_fds", frozenset()] > 3


async def test_openmetrics_for_those_who_ask(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        answer = await get(endpoint, "/metrics", Accept="application/openmetrics-text")
        assert answer.content_type == "application/openmetrics-text"
        families = open_metrics.text_string_to_metric_families(await answer.text())  # type: ignore[no-untyped-call]
        assert list(families)


async def test_made_up_operations_make_no_series(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        for name in ("Made", "Up"):
            target = {"X-Amz-Target": f"AmazonEC2ContainerServiceV20141113.{name}"}
            async with endpoint.session.post(endpoint.url, headers=target) as answer:
                assert answer.status == 400
        await get(endpoint, "/v1/made-up")
        page = await values(endpoint)
        assert page["ecs_control_api_requests_total", frozenset({"ecs", "other", "400"})] == 2
        assert page["ecs_control_api_requests_total", frozenset({"agents", "other", "404"})] == 1


@pytest.mark.parametrize("path", PATHS)
async def test_only_readers_and_operators_may(tmp_path: Path, path: str) -> None:
    settings: dict[str, Any] = {
        "keys_file": tmp_path / "credentials",
        "token_file": tmp_path / "tokens",
        "metrics_token_file": tokens(tmp_path),
        "socket": tmp_path / "sock",
    }
    async with control_endpoint(tmp_path, **settings) as endpoint:
        for header in ("", "Bearer wrong", f"Basic {TOKEN}", "Bearer "):
            answer = await get(endpoint, path, Authorization=header)
            assert answer.status == 401, header
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await get(endpoint, path, Authorization=f"Bearer {TOKEN}")).status == 200
        # A reader's token is not an agent's.
        answer = await get(endpoint, "/v1/hello", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 401
        agents = (tmp_path / "tokens").read_text().split()[-1]
        assert (await get(endpoint, path, Authorization=f"Bearer {agents}")).status == 401
        connector = aiohttp.UnixConnector(str(tmp_path / "sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as owner,
            owner.get(f"http://localhost{path}") as mine,
        ):
            assert mine.status == 200


async def test_a_token_that_was_removed_is_refused(tmp_path: Path) -> None:
    reload, file = asyncio.Event(), tokens(tmp_path)
    async with control_endpoint(
        tmp_path, keys_file=tmp_path / "credentials", metrics_token_file=file, reload=reload
    ) as endpoint:
        bearer = f"Bearer {TOKEN}"
        assert (await get(endpoint, "/metrics", Authorization=bearer)).status == 200
        file.write_text("another-token-0123456789\n")
        reload.set()
        async with asyncio.timeout(10):
            while (await get(endpoint, "/metrics", Authorization=bearer)).status == 200:
                pass
