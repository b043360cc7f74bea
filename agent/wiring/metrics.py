"""What measures the host and its containers, and what sends the measurements on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from agent.endpoints.prometheus import PrometheusServer, snapshot
from agent.metrics.sampler import Sampler

if TYPE_CHECKING:
    import asyncio
    import contextlib
    from collections.abc import Callable, Iterable

    from agent.config import Settings
    from agent.endpoints.source import WatchedAgent
    from agent.metrics.targets import SampleTarget
    from agent.model.resources import HostResources
    from agent.otlp.exporter import Exporter
    from agent.overview import Overview
    from agent.runtime.protocol import EngineInfo


def make_sampler(
    settings: Settings,
    info: EngineInfo,
    host: HostResources,
    targets: Callable[[], Iterable[SampleTarget]],
    new_containers: asyncio.Event,
) -> Sampler:
    """Return what measures ``targets``, and at once when ``new_containers`` is set."""
    return Sampler(
        targets,
        interval_s=settings.metrics_interval_s,
        cgroup_root=settings.cgroup_path,
        cgroup_driver=info.cgroup_driver,
        disks={"data": Path(info.data_root or "/"), "root": Path("/")},
        gpus=[gpu.uuid for gpu in host.gpus],
        poked=new_containers,
    )


async def otlp_exporter(
    settings: Settings, agent: WatchedAgent, samples: Sampler | None
) -> Exporter:
    """Return what sends the agent's metrics to a collector."""
    from agent.otlp import exporter  # noqa: PLC0415 - few agents need it

    headers = settings.otlp_headers.reveal()
    return await exporter.Exporter.open(
        exporter.OtlpSettings(
            url=exporter.metrics_url(settings.otlp_endpoint),
            interval_s=settings.otlp_interval_s,
            headers=json.loads(headers) if headers else {},
        ),
        lambda: snapshot(agent, samples),
    )


async def show_metrics(
    settings: Settings,
    overview: Overview,
    sampler: Sampler | None,
    group: asyncio.TaskGroup,
    cleanup: contextlib.AsyncExitStack,
) -> None:
    """Serve metrics to those who read them, and send them where they are wanted."""
    if settings.otlp_endpoint:
        exporter = await otlp_exporter(settings, overview, sampler)
        cleanup.push_async_callback(exporter.close)
        group.create_task(exporter.run(), name="OTLP")
    if settings.prometheus:
        page = await PrometheusServer.open(
            overview,
            sampler,
            host=settings.prometheus_address,
            port=settings.prometheus_port,
        )
        cleanup.push_async_callback(page.close)
