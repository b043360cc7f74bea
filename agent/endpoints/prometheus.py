"""The Prometheus page: ``GET /metrics`` over TCP, on loopback by default.

Reads views and the newest samples; a scrape takes no new samples and does not use the engine.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from agent.endpoints.http import application, server
from agent.errors import ConfigError
from agent.metrics import prometheus
from agent.metrics.process import read_process

if TYPE_CHECKING:
    from agent.endpoints.source import AgentSource, SampleSource
    from agent.listening.server import HttpServer


class PrometheusServer:
    """Serves the metrics of one agent. Open it with ``PrometheusServer.open``."""

    def __init__(self, served: HttpServer) -> None:
        self.port: int = served.addresses[0][1]
        self._server = served

    @classmethod
    async def open(
        cls,
        agent: AgentSource,
        samples: SampleSource | None,
        *,
        host: str = "127.0.0.1",
        port: int = 51680,
    ) -> PrometheusServer:
        """Listen.

        Args:
            agent: queried at each scrape.
            samples: the sampler; None if metrics are off.
            host: the address to bind.
            port: the port to bind; 0 picks a free one, see ``port``.

        Raises:
            ConfigError: the address is in use or does not belong to this host.
        """
        app = application()
        app.add_routes([web.get("/metrics", _Page(agent, samples).get)])
        served = await server(app)
        try:
            await served.listen_tcp(host, port)
        except OSError as error:
            await served.close()
            text = (
                f"ECS_PROMETHEUS_PORT: cannot listen on {host}:{port}"
                f" ({error.strerror}); choose another port, or turn off"
                " ECS_ENABLE_PROMETHEUS_METRICS"
            )
            raise ConfigError(text) from None
        return cls(served)

    async def close(self) -> None:
        """Stop listening; may be repeated."""
        await self._server.close()


class _Page:
    """The page that is scraped."""

    def __init__(self, agent: AgentSource, samples: SampleSource | None) -> None:
        self._agent = agent
        self._samples = samples

    async def get(self, _request: web.Request) -> web.Response:
        samples = self._samples
        process = await asyncio.to_thread(
            read_process,
            loop_lag_s=samples.loop_lag_s if samples else 0.0,
            round_s=samples.round_s if samples else 0.0,
        )
        text = prometheus.render(
            self._agent.agent_view(),
            self._agent.task_views(),
            samples.latest if samples else None,
            process,
        )
        return web.Response(body=text.encode(), headers={"Content-Type": prometheus.CONTENT_TYPE})
