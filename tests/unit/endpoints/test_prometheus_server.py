"""The Prometheus page over TCP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.endpoints.prometheus import PrometheusServer
from agent.errors import ConfigError

if TYPE_CHECKING:
    from tests.unit.endpoints.conftest import FakeAgent


async def test_serves_a_page_that_prometheus_reads(agent: FakeAgent) -> None:
    server = await PrometheusServer.open(agent, None, port=0)
    try:
        url = f"http://127.0.0.1:{server.port}"
        async with aiohttp.ClientSession(url) as session:
            async with session.get("/metrics") as response:
                assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                families = {
                    f.name: f for f in text_string_to_metric_families(await response.text())
                }
            wanted = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
            async with session.get("/metrics", headers=wanted) as response:
                assert response.content_type == "application/openmetrics-text"
                assert (await response.text()).endswith("# EOF\n")
            async with session.get("/") as response:
                assert response.status == 404
        assert families["process_resident_memory_bytes"].samples[0].value > 1e6
        assert families["process_cpu_seconds"].samples[0].value > 0
        assert families["process_open_fds"].samples[0].value > 3
    finally:
        await server.close()
        await server.close()


async def test_a_taken_port_is_a_config_error(agent: FakeAgent) -> None:
    first = await PrometheusServer.open(agent, None, port=0)
    try:
        with pytest.raises(ConfigError, match="ECS_PROMETHEUS_PORT: cannot listen on"):
            await PrometheusServer.open(agent, None, port=first.port)
    finally:
        await first.close()
