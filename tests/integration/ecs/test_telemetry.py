"""Telemetry: signed frames of figures, health and the engine's state, every 20 seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.backend import messages

if TYPE_CHECKING:
    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration

LONGEST_WAIT_S = 75.0
"""Between two tries after many failures, with what is added at random: other tests share the agent."""
ROUND_S = 50.0
"""Two publications and some patience."""


def test_figures_come_of_the_task_that_runs(host: Host) -> None:
    tcs, [kept] = host.backend.tcs, host.kept
    found = host.backend.journal.wait(
        lambda: tcs.containers(kept), within_s=ROUND_S, what="figures"
    )
    app = found["app"]
    assert app["memoryStatsSet"]["max"] >= 1 or app["memoryStatsSet"]["sampleCount"] >= 1
    assert app["cpuStatsSet"]["max"] < 100
    assert "storageStatsSet" in app
    assert "networkStatsSet" not in app, "the task has no network"


def test_health_and_the_state_of_the_engine_come(host: Host) -> None:
    backend = host.backend
    check = {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Timeout": 1_000_000_000}
    app = messages.container("app", host.image, "sleep", "600", healthCheckType="docker")
    app["dockerConfig"]["config"] = json.dumps({"Healthcheck": check})
    task = messages.task(app)
    host.order(task)
    host.wait(task["arn"], "RUNNING")
    backend.acs.heartbeat()
    healthy = backend.tcs.wait_frame(
        "PublishHealthRequest",
        within_s=ROUND_S,
        where=lambda f: any(
            t["taskArn"] == task["arn"] and t["containers"][0]["healthStatus"] == "HEALTHY"
            for t in f.message["tasks"]
        ),
    )
    assert healthy.message["metadata"]["fin"]
    status = backend.tcs.wait_frame(
        "PublishInstanceStatusRequest",
        within_s=ROUND_S,
        where=lambda f: f.message["statuses"][0]["status"] == "OK",
    )
    assert status.message["statuses"][0]["type"] == "ContainerRuntime"
    host.stop_task(task["arn"])


def test_the_session_comes_back_after_any_close(host: Host) -> None:
    tcs = host.backend.tcs
    for code in (1000, 4000):
        number = tcs.wait_open(within_s=LONGEST_WAIT_S).number
        tcs.close(code)
        tcs.wait_open(after=number, within_s=LONGEST_WAIT_S)
    number = tcs.wait_open().number
    tcs.drop()
    tcs.wait_open(after=number, within_s=LONGEST_WAIT_S)


def test_nothing_is_sent_again_for_a_missing_acknowledgement(host: Host) -> None:
    tcs = host.backend.tcs
    tcs.acknowledges = False
    try:
        tcs.send("StopTelemetrySessionMessage", {"message": "stop"})
        tcs.send("Surprise", {"x": 1})
        tcs.send("BadRequestException", {"message": "bad"})
        number, before = tcs.wait_open().number, len(tcs.frames("PublishMetricsRequest"))
        tcs.wait_frame("PublishMetricsRequest", count=before + 1, within_s=ROUND_S)
    finally:
        tcs.acknowledges = True
    ids = [
        f.message["metadata"]["messageId"]
        for f in tcs.frames("PublishMetricsRequest")
        if f.message["metadata"]["fin"]
    ]
    assert len(ids) == len(set(ids))
    assert tcs.wait_open().number == number
