"""A snapshot as OTLP, decoded by the structure that the protocol prescribes."""

from __future__ import annotations

import json
from typing import Any

from agent.metrics.prometheus import Snapshot
from agent.model.figures import (
    AgentFigures,
    ContainerSandboxFigures,
    PullFigures,
    SandboxFigures,
    comparisons,
)
from agent.model.histogram import Histogram
from agent.model.metrics import (
    ContainerSample,
    HostSample,
    LinkCounters,
    MetricsBatch,
    TaskSample,
)
from agent.model.views import AgentView, ContainerView, TaskView
from agent.otlp import mapping

INSTANCE = "arn:aws:ecs:r:0:container-instance/default/i1"
TASK = "arn:aws:ecs:r:0:task/default/t1"
LINK = LinkCounters(rx_bytes=10, tx_bytes=20)


def view(*names: str) -> TaskView:
    return TaskView(
        arn=TASK,
        id="t1",
        family="web",
        revision="3",
        status="RUNNING",
        desired="RUNNING",
        network_mode="awsvpc",
        containers=[
            ContainerView(
                name=name,
                image="registry.example:5000/web:1.2",
                status="RUNNING",
                desired="RUNNING",
                runtime_id=f"id-{name}",
                engine_name=f"/ecs-{name}",
                started_at=50.0,
            )
            for name in names
        ],
    )


def sample(name: str, **more: Any) -> ContainerSample:
    return ContainerSample(
        name=name,
        runtime_id=f"id-{name}",
        cpu_user_ns=1_500_000_000,
        cpu_system_ns=0,
        memory_usage_bytes=77,
        **more,
    )


def resources(task: TaskView, sampled: TaskSample, **more: Any) -> list[tuple[dict[str, str], Any]]:
    """Return the attributes and the metrics by name of each resource."""
    snapshot = Snapshot(
        at=100.0,
        agent=AgentView(version="1", cluster="default", instance_arn=INSTANCE, started_at=10.0),
        tasks=[task],
        batch=MetricsBatch(host=HostSample(at=99.5, cpus=4, links={"eth0": LINK}), tasks=[sampled]),
        **more,
    )
    document = json.loads(mapping.request(snapshot, "host-1"))
    return [
        (
            attributes(one["resource"]),
            {m["name"]: m for s in one["scopeMetrics"] for m in s["metrics"]},
        )
        for one in document["resourceMetrics"]
    ]


def attributes(part: dict[str, Any]) -> dict[str, str]:
    return {one["key"]: one["value"]["stringValue"] for one in part.get("attributes", ())}


def test_host_agent_and_containers_are_resources() -> None:
    launch = Histogram((0.1, 1.0))
    for duration_s in (0.05, 0.5, 7.0):
        launch.observe(duration_s)
    figures = AgentFigures(
        pulls=PullFigures(),
        comparisons=comparisons(),
        sandboxes=SandboxFigures(warm=4, claimed=0, hits=0, misses=0),
        container_sandboxes=ContainerSandboxFigures(ready=2, held=3, hits=4, misses=1),
        launches={"pull": launch},
    )
    sampled = TaskSample(
        task_arn=TASK, containers=[sample("app")], network=LINK, links={"eth0": LINK}
    )
    (host, of_host), (container, of_container) = resources(view("app"), sampled, figures=figures)

    assert host["service.name"] == "ecs-host-agent"
    assert host["host.name"] == "host-1"
    assert host["aws.ecs.cluster.arn"] == "arn:aws:ecs:r:0:cluster/default"
    (cores,) = of_host["system.cpu.logical.count"]["gauge"]["dataPoints"]
    assert cores == {"timeUnixNano": "99500000000", "asInt": "4"}
    assert of_host["ecs_agent_sandboxes_warm"]["gauge"]["dataPoints"][0]["asInt"] == "4"
    histogram = of_host["ecs_agent_launch_phase_duration_seconds"]
    assert histogram["unit"] == "s"
    (buckets,) = histogram["histogram"]["dataPoints"]
    assert buckets["bucketCounts"] == ["1", "1", "1"]
    assert buckets["explicitBounds"] == [0.1, 1.0]
    assert (buckets["count"], buckets["sum"]) == ("3", 7.55)
    assert histogram["histogram"]["aggregationTemporality"] == 2

    assert container["container.id"] == "id-app"
    assert container["container.name"] == "ecs-app"
    assert container["aws.ecs.task.arn"] == TASK
    assert container["aws.ecs.task.family"] == "web"
    assert container["container.image.name"] == "registry.example:5000/web"
    assert container["container.image.tag"] == "1.2"
    cpu = of_container["container.cpu.time"]
    assert cpu["unit"] == "s"
    assert cpu["sum"]["isMonotonic"] is True
    by_mode = {attributes(p)["cpu.mode"]: p for p in cpu["sum"]["dataPoints"]}
    assert by_mode["user"]["asDouble"] == 1.5
    assert by_mode["user"]["startTimeUnixNano"] == "50000000000"
    assert of_container["container.memory.usage"]["gauge"]["dataPoints"][0]["asInt"] == "77"
    traffic = of_container["container.network.io"]["sum"]["dataPoints"]
    assert {attributes(p)["network.io.direction"]: p["asInt"] for p in traffic} == {
        "receive": "10",
        "transmit": "20",
    }
    assert "container.memory.oom_kills" not in of_container, "what is missing is missing"


def test_a_network_that_containers_share_is_the_tasks() -> None:
    sampled = TaskSample(
        task_arn=TASK,
        containers=[sample("app"), sample("side")],
        network=LINK,
        links={"eth0": LINK},
    )
    _, (_, first), (_, second), (task, network) = resources(view("app", "side"), sampled)
    assert "container.network.io" not in first
    assert "container.network.io" not in second
    assert list(network) == [name for name in network if name.startswith("container.network.")]
    assert task["aws.ecs.task.arn"] == TASK
    assert "container.id" not in task


def test_samples_of_other_tasks_are_left_out() -> None:
    sampled = TaskSample(task_arn="arn:other", containers=[sample("app")])
    assert len(resources(view("app"), sampled)) == 1
