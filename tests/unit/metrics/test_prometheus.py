"""The agent's page: read back by Prometheus' own parser, checked by promtool, cheap for a full host."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from typing import Any

import pytest
from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from agent import exposition, process
from agent.metrics import prometheus
from agent.metrics.prometheus import Snapshot
from agent.model import figures
from agent.model.figures import AgentFigures, ContainerSandboxFigures, PullFigures, SandboxFigures
from agent.model.histogram import Histogram
from agent.model.metrics import (
    ContainerSample,
    CpuTimes,
    FilesystemSample,
    GpuSample,
    GpuUse,
    HostSample,
    LinkCounters,
    MetricsBatch,
    Pressure,
    RoundCost,
    Stall,
    TaskSample,
)
from agent.model.status import Health
from agent.model.views import AgentView, ContainerView, ResourceView, TaskView
from tests.support.generated import DOCS

AGENT = AgentView(
    version="0.1.0",
    cluster="default",
    instance_arn="arn:aws:ecs:r:0:container-instance/default/i1",
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
STALL = Stall(avg10_percent=0.0, avg60_percent=0.0, avg300_percent=0.0, total_us=2_500_000)
PRESSURE = Pressure(some=STALL, full=STALL)
LINK = LinkCounters(rx_bytes=10, rx_packets=1, tx_dropped=3)


def task(task_id: str = "t1", *names: str, status: str = "RUNNING") -> TaskView:
    return TaskView(
        arn=f"arn:aws:ecs:r:0:task/default/{task_id}",
        id=task_id,
        family="web",
        revision="3",
        status=status,
        desired="RUNNING",
        network_mode="awsvpc",
        containers=[
            ContainerView(
                name=name,
                image="registry.example/web:1",
                status="RUNNING",
                desired="RUNNING",
                runtime_id=f"{task_id}-{name}",
                engine_name=f"/ecs-web-3-{name}",
                health=Health.HEALTHY,
                started_at=2000.25,
                restart_count=2,
            )
            for name in names or ("app",)
        ],
    )


def sample(name: str = "app", task_id: str = "t1") -> ContainerSample:
    """A container with every figure that there is."""
    values: dict[str, Any] = {
        field.name: index
        for index, field in enumerate(structs.fields(ContainerSample), 1)
        if field.type == (int | None)
    }
    return ContainerSample(
        **values
        | {
            "name": name,
            "runtime_id": f"{task_id}-{name}",
            "cpu_ns": 1_500_000_000,
            "cpu_pressure": PRESSURE,
            "memory_pressure": PRESSURE,
            "io_pressure": Pressure(some=STALL),
            "memory_working_set_bytes": 77,
            "oom_kills": 1,
            "gpus": (GpuUse(uuid="GPU-0", memory_bytes=5, utilization_percent=50.0),),
        }
    )


HOST = HostSample(
    at=1.0,
    cpus=4,
    cpu_percent=150.0,
    cpu_times=CpuTimes(
        user_s=1.5, nice_s=0, system_s=1, idle_s=9, iowait_s=0, irq_s=0, softirq_s=0, steal_s=0
    ),
    cpu_pressure=Pressure(some=STALL),
    memory_total_bytes=4096,
    memory_used_bytes=1024,
    load_1m=0.25,
    filesystems=(
        FilesystemSample(
            name="data", path="/var/lib", total_bytes=9, used_bytes=5, available_bytes=3
        ),
    ),
    links={"eth0": LINK},
    gpus=(GpuSample(uuid="GPU-0", name="A", utilization_percent=25.0, power_watts=70.5),),
)
COST = RoundCost(duration_s=0.01, cpu_s=0.005, cpu_total_s=1.25, rounds=7, open_files=12)


def batch(*tasks: TaskSample) -> MetricsBatch:
    return MetricsBatch(host=HOST, tasks=list(tasks), cost=COST)


def some_figures() -> AgentFigures:
    launch = Histogram((0.1, 1.0))
    launch.observe(0.5)
    return AgentFigures(
        pulls=PullFigures(),
        comparisons=figures.comparisons(),
        sandboxes=SandboxFigures(warm=4, claimed=2, hits=9, misses=1),
        container_sandboxes=ContainerSandboxFigures(ready=2, held=3, hits=4, misses=1),
        launches={"pull": launch},
        steps={"pull": 2},
        tasks_waiting=6,
        connects=3,
        unsent_since=90.0,
        task_requests={("metadata", 200): 5},
    )


def page_of(snapshot: Snapshot) -> str:
    families = [*prometheus.families(snapshot), *process.families(process.read(), 1000.5)]
    return exposition.page(families)


def values(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for one in family.samples:
            key = (one.name, frozenset(one.labels.items()))
            assert key not in found, "each series stands once"
            found[key] = one.value
    return found


WHOLE = Snapshot(
    at=100.0,
    agent=AGENT,
    tasks=[task()],
    batch=batch(
        TaskSample(
            task_arn=task().arn,
            containers=[sample()],
            network=LINK,
            links={"eth0": LINK},
        ),
        TaskSample(task_arn="arn:unknown", containers=[sample()]),
    ),
    figures=some_figures(),
    loop_lag_s=0.002,
    round_s=0.01,
)
OF_TASK = frozenset({("task", "t1"), ("family", "web"), ("revision", "3")})
APP = OF_TASK | {
    ("id", "/docker/t1-app"),
    ("name", "ecs-web-3-app"),
    ("image", "registry.example/web:1"),
    ("container", "app"),
}


def test_a_whole_page() -> None:
    page = values(page_of(WHOLE))
    plain = {name: value for (name, labels), value in page.items() if not labels}
    expected = {
        "ecs_agent_control_connected": 1,
        "ecs_agent_engine_up": 0,
        "ecs_agent_unsent_changes": 4,
        "ecs_agent_oldest_unsent_change_seconds": 10,
        "ecs_agent_degraded": 1,
        "ecs_agent_event_loop_lag_seconds": 0.002,
        "ecs_agent_sample_cpu_seconds_total": 1.25,
        "ecs_agent_control_connects_total": 3,
        "ecs_agent_tasks_waiting": 6,
        "ecs_agent_sandboxes_warm": 4,
        "ecs_agent_sandbox_misses_total": 1,
        "ecs_agent_container_sandboxes_held": 3,
        "ecs_agent_container_sandbox_hits_total": 4,
        "ecs_agent_relist_duration_seconds_count": 0,
        "ecs_agent_pull_bytes_total": 0,
        "process_start_time_seconds": 1000.5,
        "ecs_host_cpu_cores_used": 1.5,
        "machine_cpu_cores": 4,
        "ecs_host_pressure_cpu_waiting_seconds_total": 2.5,
    }
    assert expected.items() <= plain.items()
    assert "ecs_host_pressure_cpu_stalled_seconds_total" not in plain
    assert "ecs_host_load5" not in plain, "what is missing is missing"
    assert page["ecs_agent_tasks", frozenset({("status", "RUNNING")})] == 2
    assert (
        page["ecs_agent_launch_phase_duration_seconds_count", frozenset({("phase", "pull")})] == 1
    )
    assert page["ecs_agent_steps_running", frozenset({("kind", "pull")})] == 2
    request = frozenset({("path", "metadata"), ("status", "200")})
    assert page["ecs_agent_task_requests_total", request] == 5
    assert page["ecs_host_resource_capacity", frozenset({("resource", "CPU")})] == 2048
    assert page["ecs_host_cpu_seconds_total", frozenset({("mode", "user")})] == 1.5
    gpu = frozenset({("gpu", "GPU-0"), ("name", "A")})
    assert page["ecs_host_gpu_utilization_ratio", gpu] == 0.25


def test_the_documentation_names_every_metric_of_the_agent() -> None:
    text = (DOCS / "monitoring.md").read_text()
    named = [name.partition("{")[0] for name in re.findall(r"`([a-z_.{},]+)`", text)]
    exact = set(named)
    beginnings = tuple(name[:-3] for name in named if name.endswith("..."))
    endings = tuple(name[3:] for name in named if name.startswith("..."))
    missing = [
        family.name
        for family in prometheus.families(WHOLE)
        if family.name.startswith("ecs_agent_")
        and family.name not in exact
        and not family.name.startswith(tuple(b for b in beginnings if b != "ecs_agent_"))
        and not family.name.endswith(endings)
    ]
    assert not missing, f"docs/monitoring.md lacks {', '.join(missing)}"


def test_containers_have_the_names_and_labels_of_cadvisor() -> None:
    page = values(page_of(WHOLE))
    assert page["container_cpu_usage_seconds_total", APP | {("cpu", "total")}] == 1.5
    assert page["container_memory_working_set_bytes", APP] == 77
    assert page["container_oom_events_total", APP] == 1
    assert page["container_last_seen", APP] == HOST.at
    assert page["container_start_time_seconds", APP] == 2000.25
    assert page["container_pressure_memory_stalled_seconds_total", APP] == 2.5
    assert ("container_pressure_io_stalled_seconds_total", APP) not in page
    assert page["container_accelerator_duty_cycle", APP | {("acc_id", "GPU-0")}] == 50
    link = APP | {("interface", "eth0")}
    assert page["container_network_receive_bytes_total", link] == 10
    assert page["container_network_transmit_packets_dropped_total", link] == 3
    restarts = OF_TASK | {("container", "app")}
    assert page["ecs_task_container_restarts_total", restarts] == 2
    assert page["ecs_task_container_healthy", restarts] == 1
    (info,) = [dict(labels) for name, labels in page if name == "ecs_task_info"]
    assert info["task_arn"] == task().arn
    assert (info["cluster"], info["network_mode"]) == ("default", "awsvpc")


def test_every_figure_of_a_container_is_on_the_page() -> None:
    def lines(one: ContainerSample) -> set[str]:
        sampled = batch(TaskSample(task_arn=task().arn, containers=[one]))
        shown = Snapshot(at=1.0, agent=AGENT, tasks=[task()], batch=sampled)
        return set(exposition.page(prometheus.families(shown)).splitlines())

    whole = lines(sample())
    elsewhere = {"memory_inactive_file_bytes", "restarts"}  # the latter is the view's
    for name in {f.name for f in structs.fields(ContainerSample) if f.type == (int | None)}:
        without = lines(structs.replace(sample(), **{name: None}))
        assert (without == whole) is (name in elsewhere), name


def test_a_network_that_containers_share_is_counted_once() -> None:
    shown = task("t1", "app", "side")
    shared = TaskSample(
        task_arn=shown.arn,
        containers=[sample("app"), sample("side")],
        network=LINK,
        links={"eth0": LINK},
    )
    page = values(page_of(Snapshot(at=1.0, agent=AGENT, tasks=[shown], batch=batch(shared))))
    found = [
        dict(labels) for name, labels in page if name == "container_network_receive_bytes_total"
    ]
    assert [(one["container"], one["name"]) for one in found] == [("", "web-3-t1")]
    own = structs.replace(
        shared,
        containers=[
            structs.replace(c, network=LINK, links={"eth0": LINK}) for c in shared.containers
        ],
    )
    page = values(page_of(Snapshot(at=1.0, agent=AGENT, tasks=[shown], batch=batch(own))))
    found = [
        dict(labels) for name, labels in page if name == "container_network_receive_bytes_total"
    ]
    assert sorted(one["container"] for one in found) == ["app", "side"]


def test_a_page_before_the_first_sample() -> None:
    names = {name for name, _ in values(page_of(Snapshot(at=1.0, agent=AGENT, tasks=[task()])))}
    assert "ecs_agent_build_info" in names
    assert "ecs_task_info" in names
    assert not names & {"ecs_host_load1", "container_last_seen", "ecs_agent_pulls_running"}


def test_a_stopped_task_and_an_unlimited_container() -> None:
    plain = ContainerSample(name="app", runtime_id="t1-app", memory_usage_bytes=5)
    sampled = batch(TaskSample(task_arn=task().arn, containers=[plain]))
    page = values(page_of(Snapshot(at=1.0, agent=AGENT, tasks=[task()], batch=sampled)))
    assert page["container_spec_memory_limit_bytes", APP] == 0
    assert not [name for name, _ in page if name == "container_threads"]
    stopped = Snapshot(at=1.0, agent=AGENT, tasks=[task(status="STOPPED")], batch=sampled)
    assert not [name for name, _ in values(page_of(stopped)) if name.startswith("container_")]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool comes with 'make tools'")
def test_promtool_has_no_complaint() -> None:
    text = page_of(WHOLE)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_page_of_300_containers_is_cheap() -> None:
    tasks = [task(f"t{number}") for number in range(300)]
    samples = [
        TaskSample(
            task_arn=one.arn,
            containers=[sample("app", one.id)],
            network=LINK,
            links={"eth0": LINK},
        )
        for one in tasks
    ]
    snapshot = Snapshot(at=1.0, agent=AGENT, tasks=tasks, batch=batch(*samples))
    took = []
    for _ in range(3):
        began = time.process_time()
        page = page_of(snapshot)
        took.append(time.process_time() - began)
    assert page.count("\n") > 300 * 40
    assert min(took) < 0.5, "some 40 ms on an idle machine, in a thread"
