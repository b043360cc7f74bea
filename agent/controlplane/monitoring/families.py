"""The metrics of a control endpoint and its fleet. Pure.

To add one, add it to the function of its source. Names begin with ``ecs_control_``, and say their unit.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct

from agent.exposition import Family, Labels, one
from agent.model.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.controlplane.host_scaling.hooks import HostHooks
    from agent.controlplane.monitoring.figures import Figures
    from agent.controlplane.monitoring.fleet_view import Counts

_HOST_STATUSES = ("ACTIVE", "DRAINING")
_TASK_STATUSES = ("PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED")


class ControlState(Struct, frozen=True, kw_only=True):
    """What control is at the moment of a scrape."""

    version: str
    region: str
    revision: int
    """Of the store."""
    is_store_well: bool
    store_bytes: int
    """Size of the store on disk; 0 if it is not known."""
    polls: int
    """Calls of agents that are held."""
    silent: int
    """Hosts that hold no poll and did lately."""
    wake_ups: Histogram
    troubles: int
    """Things that do not work while control does."""
    audited: tuple[int, int] | None = None
    """Audit records that were written and lost; None where none are kept."""


def of_control(state: ControlState) -> list[Family]:
    """Return the metrics of the control endpoint itself."""
    info = Labels({"version": state.version, "region": state.region})
    return [
        *_of_audit(state.audited),
        Family("ecs_control_build_info", "gauge", "Version of control; always 1.", [(info, 1)]),
        one(
            "ecs_control_store_revision",
            "gauge",
            "Revision of the store; it grows by one with every transaction that changes anything.",
            state.revision,
        ),
        one(
            "ecs_control_store_up",
            "gauge",
            "1 while the store can be read and written.",
            state.is_store_well,
        ),
        one(
            "ecs_control_store_size_bytes",
            "gauge",
            "Size of the store on disk; 0 while it is not known.",
            state.store_bytes,
        ),
        one(
            "ecs_control_leader",
            "gauge",
            "1 for the control that serves the fleet; one that stands by serves no metrics.",
            1,
        ),
        one(
            "ecs_control_hosts_silent",
            "gauge",
            "Hosts that have held no poll for 5 s, since control started; lost ones, too.",
            state.silent,
        ),
        one(
            "ecs_control_wake_up_duration_seconds",
            "histogram",
            "From a commit that concerns a host, as the watch told of it, to the answer to its poll.",
            state.wake_ups,
        ),
        one(
            "ecs_control_polls_held",
            "gauge",
            "Polls of agents that wait for orders.",
            state.polls,
        ),
        one(
            "ecs_control_troubles",
            "gauge",
            "Number of problems that do not stop control; /healthz lists them.",
            state.troubles,
        ),
    ]


def _of_audit(audited: tuple[int, int] | None) -> list[Family]:
    """Return the metrics of the audit trail, if there is one."""
    if audited is None:
        return []
    return [
        Family(
            "ecs_control_audit_records_total",
            "counter",
            "Calls of operators by whether their audit record could be written.",
            [
                (Labels({"result": result}), count)
                for result, count in zip(("written", "lost"), audited, strict=True)
            ],
        )
    ]


def of_fleet(counts: Counts) -> Iterator[Family]:
    """Yield the metrics of the hosts and tasks."""
    hosts: Counter[tuple[str, str, str]] = Counter()
    for host, count in counts.hosts.items():
        hosts[host.cluster, host.status, "true" if host.is_connected else "false"] += count
    clusters = sorted({cluster for cluster, *_ in hosts} | {t.cluster for t in counts.tasks})
    yield Family(
        "ecs_control_hosts",
        "gauge",
        "Registered hosts, by status and by whether their agent is connected.",
        [
            (
                Labels({"cluster": cluster, "status": status, "connected": connected}),
                hosts[cluster, status, connected],
            )
            for cluster in clusters
            for status in _HOST_STATUSES
            for connected in ("true", "false")
        ],
    )
    tasks = Counter({(t.cluster, t.status): count for t, count in counts.tasks.items()})
    others = sorted({status for _, status in tasks} - set(_TASK_STATUSES))
    yield Family(
        "ecs_control_tasks",
        "gauge",
        "Tasks by last status; stopped tasks for an hour.",
        [
            (Labels({"cluster": cluster, "status": status}), tasks[cluster, status])
            for cluster in clusters
            for status in (*_TASK_STATUSES, *others)
        ],
    )
    yield Family(
        "ecs_control_scrape_targets",
        "gauge",
        "Containers that ask to be scraped: listed for Prometheus, or lost because they cannot be "
        "reached.",
        [
            (Labels({"state": "listed"}), counts.listed_targets),
            (Labels({"state": "lost"}), counts.lost_targets),
        ],
    )


def of_hosts(hooks: HostHooks | None) -> list[Family]:
    """Return the metrics of managed scaling; none where no capacity provider has it."""
    if hooks is None or not (hooks.figures or hooks.runs):
        return []
    labels = {
        pair: {"cluster": pair.cluster, "capacity_provider": pair.provider}
        for pair in sorted(hooks.figures)
    }
    return [
        Family(
            "ecs_control_managed_hosts",
            "gauge",
            "Hosts of capacity providers with managed scaling: those that tasks need, those that are there, and "
            "those that are desired.",
            [
                (Labels({**named, "kind": kind}), getattr(hooks.figures[pair], kind))
                for pair, named in labels.items()
                for kind in ("needed", "there", "desired")
            ],
        ),
        Family(
            "ecs_control_capacity_provider_reservation_percent",
            "gauge",
            "CapacityProviderReservation, as on CloudWatch.",
            [(Labels(named), hooks.figures[pair].reservation) for pair, named in labels.items()],
        ),
        Family(
            "ecs_control_host_hook_runs_total",
            "counter",
            "Runs of the programs that add and remove hosts.",
            [
                (Labels({"capacity_provider": provider, "result": result}), count)
                for (provider, result), count in sorted(hooks.runs.items())
            ],
        ),
    ]


def of_figures(figures: Figures) -> list[Family]:
    """Return the metrics of what control has done since it started."""
    return [
        Family(
            "ecs_control_api_requests_total",
            "counter",
            "Answered calls, by API, operation and HTTP status.",
            [
                (
                    Labels({"api": c.api, "operation": c.operation, "status": str(c.status)}),
                    count,
                )
                for c, count in sorted(figures.calls.items())
            ],
        ),
        Family(
            "ecs_control_api_request_duration_seconds",
            "histogram",
            "How long calls of operators took.",
            [(Labels({"api": api}), one) for api, one in sorted(figures.durations.items())],
        ),
        Family(
            "ecs_control_host_refusals_total",
            "counter",
            "Calls that were refused because another host made them than that of the container instance.",
            [
                (Labels({"wire": wire}), figures.refused_hosts[wire])
                for wire in ("amazon", "longpoll")
            ],
        ),
        one(
            "ecs_control_placement_duration_seconds",
            "histogram",
            "How long RunTask and StartTask took to place tasks and to commit them.",
            figures.placements,
        ),
        one(
            "ecs_control_tasks_placed_total",
            "counter",
            "Tasks that were placed on a host.",
            figures.placed,
        ),
        one(
            "ecs_control_tasks_unplaced_total",
            "counter",
            "Tasks that were requested, but that no host had room for.",
            figures.unplaced,
        ),
    ]
