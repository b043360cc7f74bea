"""The settings of metrics: what is sampled, who reads it, and where it is sent.

Pure data, the fourth part of the table of ``Settings``.
"""

# ruff: noqa: RUF009 - setting returns a dataclass field, created once per class like any other
from __future__ import annotations

from dataclasses import dataclass

from agent.config import network_values, values
from agent.config.task_endpoint_settings import TaskEndpointSettings
from agent.config.values import SecretText
from agent.config.variable import Bounds, setting


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False, eq=False)
class MetricsSettings(TaskEndpointSettings):
    """What concerns metrics; see ``Settings``, which includes all of these."""

    host_address: str = setting(
        "ECS_HOST_ADDRESS",
        network_values.ADDRESS,
        "",
        "Address at which other machines reach this host; control lists it for Prometheus.",
        note="the address towards the default route",
        ours=True,
    )
    disable_metrics: bool = setting(
        "ECS_DISABLE_METRICS", values.BOOL, "false", "Take no samples, and send no metrics."
    )
    metrics_interval_s: float = setting(
        "ECS_POLLING_METRICS_WAIT_DURATION",
        values.DURATION,
        "10s",
        "Time between two samples. Amazon's agent requires at least 5s.",
        bounds=Bounds(1, 20),
    )
    prometheus: bool = setting(
        "ECS_ENABLE_PROMETHEUS_METRICS",
        values.BOOL,
        "false",
        "Serve Prometheus metrics at `/metrics` ([monitoring.md](monitoring.md)).",
    )
    prometheus_address: str = setting(
        "ECS_PROMETHEUS_ADDRESS",
        network_values.ADDRESS,
        "127.0.0.1",
        "Address at which `/metrics` is served; `0.0.0.0` or `::` for all addresses of this host. Anyone "
        "who can reach it can read the metrics.",
        ours=True,
    )
    prometheus_port: int = setting(
        "ECS_PROMETHEUS_PORT",
        values.INT,
        "51680",
        "Port of `/metrics`.",
        bounds=Bounds(1, 65535, "refuse"),
        ours=True,
    )
    otlp_endpoint: str = setting(
        "ECS_OTLP_ENDPOINT",
        values.URL,
        "",
        "URL of a collector to which the agent sends its metrics as OTLP/HTTP, such as "
        "`http://192.0.2.10:4318`; `/v1/metrics` is added. Without it, nothing is sent.",
        ours=True,
    )
    otlp_headers: SecretText = setting(
        "ECS_OTLP_HEADERS",
        values.HEADERS,
        "",
        'HTTP headers for the collector, such as `{"api-key": "..."}`. Never logged.',
        empty=SecretText,
        ours=True,
    )
    otlp_interval_s: float = setting(
        "ECS_OTLP_INTERVAL",
        values.DURATION,
        "60s",
        "Time between two requests to the collector.",
        bounds=Bounds(1, 3600, "refuse"),
        ours=True,
    )
