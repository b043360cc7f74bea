"""The metrics of the agent itself. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.exposition import Family, Labels, one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.exposition import Kind, Value
    from agent.model.figures import AgentFigures
    from agent.model.metrics import RoundCost
    from agent.model.views import AgentView


def of_agent(agent: AgentView) -> Iterator[Family]:
    """Yield what the agent is, and how it stands."""
    build = Labels({"version": agent.version, "engine_version": agent.engine_version})
    place = Labels(
        {
            "cluster": agent.cluster,
            "container_instance": agent.instance_arn,
            "status": agent.instance_status,
        }
    )
    yield Family(
        "ecs_agent_build_info", "gauge", "Versions of agent and engine; always 1.", [(build, 1)]
    )
    yield Family(
        "ecs_agent_instance_info",
        "gauge",
        "Where the host is registered; always 1.",
        [(place, 1)],
    )
    counts = {"PENDING": agent.pending, "RUNNING": agent.running, "STOPPED": agent.stopped}
    yield Family(
        "ecs_agent_tasks",
        "gauge",
        "Tasks that the agent holds.",
        [(Labels({"status": status}), count) for status, count in counts.items()],
    )
    for name, kind, text, value_of in _VIEWED:
        yield one(name, kind, text, value_of(agent))


def of_figures(figures: AgentFigures, now: float) -> Iterator[Family]:
    """Yield what the agent counts about itself; ``now`` is Unix time."""
    for name, kind, text, value_of in _COUNTED:
        yield one(name, kind, text, value_of(figures))
    yield one(
        "ecs_agent_oldest_unsent_change_seconds",
        "gauge",
        "Age of the oldest state change that control has not acknowledged; 0 if there is none.",
        round(max(0.0, now - figures.unsent_since), 3) if figures.unsent_since else 0,
    )
    yield Family(
        "ecs_agent_launch_phase_duration_seconds",
        "histogram",
        "How long the phases of task launches took; a phase of a container counts once for each.",
        [(Labels({"phase": phase}), took) for phase, took in figures.launches.items()],
    )
    yield Family(
        "ecs_agent_steps_running",
        "gauge",
        "Steps for tasks that run now, such as creating a container, by kind.",
        [(Labels({"kind": kind}), count) for kind, count in sorted(figures.steps.items())],
    )
    yield Family(
        "ecs_agent_task_requests_total",
        "counter",
        "Requests of tasks for metadata, credentials and so on, by HTTP status.",
        [
            (Labels({"path": path, "status": str(status)}), count)
            for (path, status), count in sorted(figures.task_requests.items())
        ],
    )


def of_sampler(
    loop_lag_s: float | None, round_s: float | None, cost: RoundCost | None
) -> Iterator[Family]:
    """Yield what sampling costs."""
    yield one(
        "ecs_agent_event_loop_lag_seconds",
        "gauge",
        "How late the event loop was at the last timer of the sampler.",
        loop_lag_s,
    )
    yield one(
        "ecs_agent_sample_duration_seconds",
        "gauge",
        "How long the last sampling round took.",
        round_s,
    )
    if cost is None:
        return
    yield one(
        "ecs_agent_sample_cpu_seconds_total",
        "counter",
        "CPU time of all sampling rounds.",
        cost.cpu_total_s,
    )
    yield one("ecs_agent_sample_rounds_total", "counter", "Sampling rounds.", cost.rounds)
    yield one(
        "ecs_agent_sample_open_fds",
        "gauge",
        "Files that the sampler holds open.",
        cost.open_files,
    )


_VIEWED: list[tuple[str, Kind, str, Callable[[AgentView], float | None]]] = [
    (
        "ecs_agent_control_connected",
        "gauge",
        "1 while the control endpoint answers.",
        lambda agent: agent.control_connected,
    ),
    (
        "ecs_agent_engine_up",
        "gauge",
        "1 while the container engine answers.",
        lambda agent: agent.engine_connected,
    ),
    (
        "ecs_agent_unsent_changes",
        "gauge",
        "State changes that control has not acknowledged yet.",
        lambda agent: agent.unsent_changes,
    ),
    (
        "ecs_agent_logs_waiting_bytes",
        "gauge",
        "Logs of containers that wait for control, compressed on the disk.",
        lambda agent: agent.logs.waiting_bytes,
    ),
    (
        "ecs_agent_logs_lost_events_total",
        "counter",
        "Log events of containers that were lost: dropped, refused or damaged.",
        lambda agent: sum(loss.events for loss in agent.logs.lost),
    ),
    (
        "ecs_agent_degraded",
        "gauge",
        "Number of things that do not work now.",
        lambda agent: len(agent.degraded),
    ),
]

_COUNTED: list[tuple[str, Kind, str, Callable[[AgentFigures], Value | None]]] = [
    (
        "ecs_agent_control_connects_total",
        "counter",
        "How often the connection to control was made.",
        lambda figures: figures.connects,
    ),
    (
        "ecs_agent_tasks_waiting",
        "gauge",
        "Tasks that the host has no room for yet.",
        lambda figures: figures.tasks_waiting,
    ),
    (
        "ecs_agent_relist_duration_seconds",
        "histogram",
        "How long comparisons with the engine's list of containers took.",
        lambda figures: figures.comparisons,
    ),
    (
        "ecs_agent_pull_duration_seconds",
        "histogram",
        "How long pulls of images took that succeeded, without the wait for their turn.",
        lambda figures: figures.pulls.durations,
    ),
    (
        "ecs_agent_pull_failures_total",
        "counter",
        "Tries to pull an image that failed.",
        lambda figures: figures.pulls.failed,
    ),
    (
        "ecs_agent_pull_bytes_total",
        "counter",
        "Bytes of compressed layers that were downloaded, as far as the engine tells.",
        lambda figures: figures.pulls.downloaded_bytes,
    ),
    (
        "ecs_agent_pulls_running",
        "gauge",
        "Images that are being pulled.",
        lambda figures: figures.pulls.running,
    ),
    (
        "ecs_agent_pulls_waiting",
        "gauge",
        "Pulls that wait for their turn (ECS_IMAGE_PULL_LIMIT).",
        lambda figures: figures.pulls.waiting,
    ),
    (
        "ecs_agent_sandboxes_warm",
        "gauge",
        "Network sandboxes that are ready for a task.",
        lambda figures: figures.sandboxes.warm,
    ),
    (
        "ecs_agent_sandboxes_claimed",
        "gauge",
        "Network sandboxes that tasks hold.",
        lambda figures: figures.sandboxes.claimed,
    ),
    (
        "ecs_agent_sandbox_hits_total",
        "counter",
        "Launches that found a network sandbox ready.",
        lambda figures: figures.sandboxes.hits,
    ),
    (
        "ecs_agent_sandbox_misses_total",
        "counter",
        "Launches that had to wait for a network sandbox to be made.",
        lambda figures: figures.sandboxes.misses,
    ),
    (
        "ecs_agent_container_sandboxes_ready",
        "gauge",
        "Network sandboxes that are ready for a container in none mode.",
        lambda figures: figures.container_sandboxes.ready,
    ),
    (
        "ecs_agent_container_sandboxes_held",
        "gauge",
        "Network sandboxes that containers in none mode hold.",
        lambda figures: figures.container_sandboxes.held,
    ),
    (
        "ecs_agent_container_sandbox_hits_total",
        "counter",
        "Containers that found a network sandbox ready.",
        lambda figures: figures.container_sandboxes.hits,
    ),
    (
        "ecs_agent_container_sandbox_misses_total",
        "counter",
        "Containers that found no network sandbox ready, and got their network from the engine.",
        lambda figures: figures.container_sandboxes.misses,
    ),
]
