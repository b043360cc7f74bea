"""The page, read back by Prometheus's own parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from agent.metrics.process import read_process
from agent.metrics.prometheus import ProcessFigures, render
from agent.model.metrics import (
    ContainerSample,
    HostSample,
    LinkCounters,
    MetricsBatch,
    TaskSample,
)
from agent.model.status import Health
from agent.model.views import AgentView, ContainerView, ResourceView, TaskView

AGENT = AgentView(
    version="0.1.0",
    cluster="default",
    instance_arn="arn:i",
    instance_status="ACTIVE",
    control_connected=True,
    unsent_changes=4,
    engine_version="20.10",
    degraded=["the engine does not answer"],
    started_at=1000.5,
    running=2,
    stopped=1,
    resources=[ResourceView(name="CPU", total=2048, used=512)],
)


def task(arn: str = "a/t1", family: str = "web", health: Health = Health.UNKNOWN) -> TaskView:
    container = ContainerView(
        name="app",
        image="i",
        status="RUNNING",
        desired="RUNNING",
        health=health,
        restart_count=2,
    )
    return TaskView(
        arn=arn,
        id=arn.rsplit("/", 1)[-1],
        family=family,
        revision="3",
        status="RUNNING",
        desired="RUNNING",
        network_mode="awsvpc",
        containers=[container],
    )


BATCH = MetricsBatch(
    host=HostSample(at=1.0, cpu_percent=150.0, memory_total_bytes=4096, load_1m=0.25),
    tasks=[
        TaskSample(
            task_arn="a/t1",
            at=1.0,
            containers=[
                ContainerSample(name="app", runtime_id="r", cpu_ns=1_500_000_000, memory_bytes=77)
            ],
            network=LinkCounters(rx_bytes=10, tx_dropped=3),
        ),
        TaskSample(task_arn="a/unknown", at=1.0, containers=[]),
    ],
)

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def values(text: str) -> Values:
    found: Values = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in {"gauge", "counter"}
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "each series stands once"
            found[key] = sample.value
    return found


def test_a_whole_page() -> None:
    process = ProcessFigures(cpu_s=2.5, resident_bytes=100, open_files=9, loop_lag_s=0.002)
    page = values(render(AGENT, [task(health=Health.HEALTHY)], BATCH, process))
    plain = {name: value for (name, labels), value in page.items() if not labels}
    assert plain["ecs_agent_control_connected"] == 1
    assert plain["ecs_agent_engine_up"] == 0
    assert plain["ecs_agent_unsent_changes"] == 4
    assert plain["ecs_agent_degraded"] == 1
    assert plain["ecs_agent_event_loop_lag_seconds"] == 0.002
    assert plain["process_cpu_seconds_total"] == 2.5
    assert plain["process_start_time_seconds"] == 1000.5
    assert plain["ecs_host_cpu_cores_used"] == 1.5
    assert page["ecs_agent_tasks", frozenset({("status", "RUNNING")})] == 2
    assert page["ecs_host_resource_used", frozenset({("resource", "CPU")})] == 512
    one = frozenset({("task", "t1"), ("family", "web"), ("revision", "3")})
    app = one | {("container", "app")}
    assert page["ecs_task_container_cpu_seconds_total", app] == 1.5
    assert page["ecs_task_container_memory_bytes", app] == 77
    assert page["ecs_task_container_restarts_total", app] == 2
    assert page["ecs_task_container_healthy", app] == 1
    assert ("ecs_task_container_memory_limit_bytes", app) not in page
    assert page["ecs_task_network_receive_bytes_total", one] == 10
    assert page["ecs_task_network_transmit_dropped_total", one] == 3
    assert not [labels for _, labels in page if ("task", "unknown") in labels]


def test_a_page_before_the_first_sample() -> None:
    page = values(render(AGENT, [task()], None, ProcessFigures()))
    names = {name for name, _ in page}
    assert "ecs_host_load1" not in names
    assert "ecs_task_container_cpu_seconds_total" not in names
    assert "ecs_task_container_healthy" not in names
    assert "ecs_agent_build_info" in names


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=30))
def test_any_text_survives_as_a_label(text: str) -> None:
    page = values(render(AGENT, [task(family=text)], BATCH, ProcessFigures()))
    families = {dict(labels).get("family") for name, labels in page if "network" in name}
    assert families == {text}


@given(st.floats(0, 1e18), st.integers(0, 2**63))
def test_numbers_survive(cpu_s: float, size: int) -> None:
    text = render(AGENT, [], None, ProcessFigures(cpu_s=cpu_s, resident_bytes=size))
    page = values(text)
    assert page["process_cpu_seconds_total", frozenset()] == cpu_s
    assert page["process_resident_memory_bytes", frozenset()] == size


def test_figures_of_this_process() -> None:
    process = read_process(loop_lag_s=0.5, round_s=0.25)
    assert process.resident_bytes > 1_000_000
    assert process.open_files >= 3
    assert process.cpu_s > 0
    assert (process.loop_lag_s, process.round_s) == (0.5, 0.25)
