"""The Prometheus page: ``GET /metrics`` over TCP, on loopback by default.

Reads views and the newest samples; a scrape takes no new samples and does not use the engine. A page is made in
a thread, one at a time, so that the event loop does not wait for it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from agent import exposition, process
from agent.endpoints.http import application, server
from agent.errors import ConfigError, EngineUnavailable
from agent.metrics import prometheus
from agent.metrics.prometheus import Snapshot

if TYPE_CHECKING:
    from agent.endpoints.source import SampleSource, WatchedAgent
    from agent.listening.server import HttpServer

_PAGE_LIMIT_S: Final = 10.0
_GZIP_IN_THREAD_BYTES: Final = 1024


class PrometheusServer:
    """Serves the metrics of one agent. Open it with ``PrometheusServer.open``."""

    def __init__(self, served: HttpServer) -> None:
        self.port: int = served.addresses[0][1]
        self._server = served

    @classmethod
    async def open(
        cls,
        agent: WatchedAgent,
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
                f" ({error.strerror}); choose another port or ECS_PROMETHEUS_ADDRESS, or turn off"
                " ECS_ENABLE_PROMETHEUS_METRICS"
            )
            raise ConfigError(text) from None
        return cls(served)

    async def close(self) -> None:
        """Stop listening; may be repeated."""
        await self._server.close()


class _Page:
    """The page that is scraped."""

    def __init__(self, agent: WatchedAgent, samples: SampleSource | None) -> None:
        self._agent = agent
        self._samples = samples
        self._turn = asyncio.Lock()

    async def get(self, request: web.Request) -> web.Response:
        is_open = exposition.wants_open_metrics(request.headers.get("Accept", ""))
        async with asyncio.timeout(_PAGE_LIMIT_S), self._turn:
            body = await asyncio.to_thread(_make, snapshot(self._agent, self._samples), is_open)
        answer = web.Response(
            body=body,
            headers={"Content-Type": exposition.OPEN_METRICS if is_open else exposition.TEXT},
            zlib_executor_size=_GZIP_IN_THREAD_BYTES,
        )
        answer.enable_compression()
        return answer


def snapshot(agent: WatchedAgent, samples: SampleSource | None) -> Snapshot:
    """Return what is known now; an agent that starts has no tasks yet."""
    try:
        tasks = agent.task_views()
    except EngineUnavailable:
        tasks = []
    return Snapshot(
        at=time.time(),
        agent=agent.agent_view(),
        tasks=tasks,
        batch=samples.latest if samples else None,
        figures=agent.figures(),
        loop_lag_s=samples.loop_lag_s if samples else None,
        round_s=samples.round_s if samples else None,
    )


def _make(shown: Snapshot, is_open: bool) -> bytes:
    families = [
        *prometheus.families(shown),
        *process.families(process.read(), shown.agent.started_at),
    ]
    return exposition.page(families, open_metrics=is_open).encode()
