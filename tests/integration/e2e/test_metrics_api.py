"""`aws cloudwatch` shows what the agent measured of a real task, over both wires."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import register, run
from tests.support.fleet import KEYS, WIRES, Fleet, eventually, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

BURN = "while :; do :; done"
AWS = [sys.executable, str(Path(sys.executable).with_name("aws"))]


@pytest.fixture(params=WIRES)
def host(leak_check: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    del leak_check
    with fleet(tmp_path, wire=request.param, ECS_POLLING_METRICS_WAIT_DURATION="5s") as made:
        yield made


def aws(host: Fleet, *words: str) -> Any:
    """Run a command of ``aws cloudwatch`` as the variables of ``ecs-agent env`` would have it."""
    done = subprocess.run(
        [*AWS, "cloudwatch", *words, "--endpoint-url", host.control.url, "--output", "json"],
        env={**KEYS, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def values(host: Fleet, task_id: str, family: str, **asked: str) -> dict[str, list[float]]:
    """Return the values of metrics of a task by id; ``asked`` has name and statistic of each."""
    dimensions = {"ClusterName": "default", "TaskDefinitionFamily": family, "TaskId": task_id}
    queries = [
        {
            "Id": id_,
            "MetricStat": {
                "Metric": {
                    "Namespace": "ECS/ContainerInsights",
                    "MetricName": what.split()[0],
                    "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
                },
                "Period": 60,
                "Stat": what.split()[1],
            },
        }
        for id_, what in asked.items()
    ]
    now = int(time.time())
    answer = host.client("cloudwatch").get_metric_data(
        MetricDataQueries=queries, StartTime=now - 600, EndTime=now + 60
    )
    return {one["Id"]: one["Values"] for one in answer["MetricDataResults"]}


def test_the_figures_of_a_busy_task(host: Fleet, busybox_image: str) -> None:
    agent = host.agents[0]
    definition = register(host.client(), busybox_image, BURN)
    (arn,) = run(host.client(), definition)
    task_id, family = arn.rsplit("/", 1)[-1], definition.rsplit("/", 1)[-1].split(":")[0]
    cores: set[float] = set()
    memory: set[int] = set()

    def kept() -> dict[str, list[float]] | None:
        for view in agent.json("tasks"):
            for one in (view.get("sample") or {}).get("containers", []):
                if one.get("cpuPercent") is not None:
                    cores.add(one["cpuPercent"] / 100)
                    memory.add(one["memoryBytes"])
        found = values(
            host,
            task_id,
            family,
            least="CpuUtilized Minimum",
            mean="CpuUtilized Average",
            most="CpuUtilized Maximum",
            reserved="CpuReserved Average",
            memory="MemoryUtilized Maximum",
        )
        return found if all(found.values()) else None  # the first sample has no use of CPU

    found = eventually(kept, what="figures of the task in CloudWatch's API")
    # The newest samples may not be told yet, and one may have been missed here.
    assert 0.8 * min(cores) <= found["least"][0] / 1024 <= 1.2 * max(cores)
    assert found["least"][0] <= found["mean"][0] <= found["most"][0]
    assert found["mean"][0] > 50, "a task that burns a core"
    assert found["reserved"] == [10.0]
    # The agent of Amazon's wire tells whole MiB.
    assert min(memory) / 2**20 - 1 <= found["memory"][0] <= max(memory) / 2**20 + 1
    listed = aws(host, "list-metrics", "--namespace", "AWS/ECS")
    assert isinstance(listed["Metrics"], list)
    host.stop_tasks()
