"""A snapshot of the agent as one request of OTLP/HTTP in JSON. Pure.

There is one resource for the host with its agent, and one for each container; network figures that the containers
of a task share have the resource of the task. Counters are cumulative.

Source: ``opentelemetry-proto`` 1.7, ``metrics/v1/metrics.proto``, in the JSON mapping of the OTLP specification:
64-bit integers are texts, enumerations numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent import __version__
from agent.metrics import agent_families
from agent.model.histogram import Histogram
from agent.model.metrics import network_of
from agent.otlp import semantics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.exposition import Family, Labels, Value
    from agent.metrics.prometheus import Snapshot
    from agent.model.metrics import ContainerSample, TaskSample
    from agent.model.views import ContainerView, TaskView
    from agent.otlp.semantics import Definition, Number

_CUMULATIVE: Final = 2
_SCOPE: Final = {"name": "ecs-host-agent", "version": __version__}
_UNITS: Final = {"seconds": "s", "bytes": "By", "celsius": "Cel", "watts": "W", "ratio": "1"}

_encode = msgspec.json.Encoder().encode


def request(snapshot: Snapshot, hostname: str) -> bytes:
    """Return the body of a request with everything in a snapshot.

    Args:
        snapshot: what is known.
        hostname: of this host.
    """
    return _encode({"resourceMetrics": list(_resources(snapshot, hostname))})


def _resources(snapshot: Snapshot, hostname: str) -> Iterator[dict[str, Any]]:
    agent, batch = snapshot.agent, snapshot.batch
    at_ns = _ns(snapshot.at)
    place = {"host.name": hostname, "aws.ecs.cluster.arn": cluster_arn(agent.instance_arn)}
    own = {
        "service.name": "ecs-host-agent",
        "service.version": agent.version,
        "service.instance.id": agent.instance_arn,
    }
    metrics = [
        _of_family(one, at_ns, _ns(agent.started_at)) for one in _families(snapshot) if one.series
    ]
    if batch is not None:
        metrics += _of_table(semantics.HOST, batch.host, _ns(batch.host.at))
        metrics += _of_table(semantics.HOST_LINKS, batch.host.links, _ns(batch.host.at))
    yield _resource(place | own, metrics)
    tasks = {task.arn: task for task in snapshot.tasks if task.status != "STOPPED"}
    if batch is None:
        return
    for sample in batch.tasks:
        task = tasks.get(sample.task_arn)
        if task is not None:
            yield from _of_task(task, sample, _ns(batch.at), place)


def _families(snapshot: Snapshot) -> Iterator[Family]:
    yield from agent_families.of_agent(snapshot.agent)
    if snapshot.figures is not None:
        yield from agent_families.of_figures(snapshot.figures, snapshot.at)


def cluster_arn(instance_arn: str) -> str:
    """Return the ARN of the cluster of a container instance; empty for no instance."""
    head, found, rest = instance_arn.partition(":container-instance/")
    cluster, slash, _ = rest.partition("/")
    return f"{head}:cluster/{cluster}" if found and slash else ""


def _of_task(
    task: TaskView, sample: TaskSample, at_ns: str, place: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    views = {view.name: view for view in task.containers}
    of_task = {
        **place,
        "aws.ecs.task.arn": task.arn,
        "aws.ecs.task.id": task.id,
        "aws.ecs.task.family": task.family,
        "aws.ecs.task.revision": task.revision,
    }
    is_shared = len(sample.containers) > 1 and not any(c.network for c in sample.containers)
    for one in sample.containers:
        view = views.get(one.name)
        if view is None or view.runtime_id != one.runtime_id:
            continue
        began_ns = _ns(view.started_at)
        metrics = _of_table(semantics.CONTAINER, one, at_ns, began_ns)
        network = None if is_shared else network_of(sample, one)
        if network is not None:
            metrics += _of_table(semantics.CONTAINER_LINKS, network.links, at_ns, began_ns)
        yield _resource({**of_task, **_of_container(view, one)}, metrics)
    if is_shared and sample.links:
        yield _resource(of_task, _of_table(semantics.CONTAINER_LINKS, sample.links, at_ns))


def _of_container(view: ContainerView, sample: ContainerSample) -> dict[str, str]:
    name, _, tag = view.image.partition("@")[0].rpartition(":")
    has_tag = bool(name) and "/" not in tag
    return {
        "container.id": sample.runtime_id,
        "container.name": view.engine_name.lstrip("/"),
        "container.runtime": "docker",
        "aws.ecs.container.name": view.name,
        "container.image.name": name if has_tag else view.image.partition("@")[0],
        "container.image.tag": tag if has_tag else "",
    }


def _of_table(
    table: Iterable[Definition], source: Any, at_ns: str, began_ns: str = "0"
) -> list[dict[str, Any]]:
    found = []
    for definition in table:
        points = [
            _point(point.value, point.attributes, at_ns, began_ns if definition.is_counter else "0")
            for point in definition.points_of(source)
            if point.value is not None
        ]
        if points:
            found.append(
                _metric(
                    definition.name, definition.unit, definition.text, points, definition.is_counter
                )
            )
    return found


def _of_family(family: Family, at_ns: str, began_ns: str) -> dict[str, Any]:
    """Return a metric that has its name and labels from Prometheus."""
    name = family.name.removesuffix("_total")
    unit = _UNITS.get(name.rpartition("_")[2], "")
    is_counter = family.kind == "counter"
    if family.kind == "histogram":
        return {
            "name": name,
            "unit": unit,
            "description": family.help,
            "histogram": {
                "aggregationTemporality": _CUMULATIVE,
                "dataPoints": [_buckets(*one, at_ns, began_ns) for one in family.series],
            },
        }
    points = [
        _point(value, labels.pairs, at_ns, began_ns if is_counter else "0")
        for labels, value in family.series
        if not isinstance(value, Histogram)
    ]
    return _metric(name, unit, family.help, points, is_counter)


def _metric(
    name: str, unit: str, text: str, points: list[dict[str, Any]], is_counter: bool
) -> dict[str, Any]:
    head = {"name": name, "unit": unit, "description": text}
    if not is_counter:
        return {**head, "gauge": {"dataPoints": points}}
    monotonic = {"aggregationTemporality": _CUMULATIVE, "isMonotonic": True, "dataPoints": points}
    return {**head, "sum": monotonic}


def _point(
    value: Number, attributes: Mapping[str, str], at_ns: str, began_ns: str
) -> dict[str, Any]:
    point: dict[str, Any] = {"timeUnixNano": at_ns}
    if began_ns != "0":
        point["startTimeUnixNano"] = began_ns
    if attributes:
        point["attributes"] = _attributes(attributes)
    if isinstance(value, int):
        point["asInt"] = str(int(value))  # a bool too
    else:
        point["asDouble"] = value
    return point


def _buckets(labels: Labels, value: Value, at_ns: str, began_ns: str) -> dict[str, Any]:
    assert isinstance(value, Histogram)  # noqa: S101 - by the kind of its family
    totals = [count for _, count in value.cumulative()]
    counts = [after - before for before, after in zip([0, *totals], totals, strict=False)]
    return {
        "attributes": _attributes(labels.pairs),
        "timeUnixNano": at_ns,
        "startTimeUnixNano": began_ns,
        "count": str(totals[-1]),
        "sum": value.sum_s,
        "explicitBounds": list(value.bounds_s),
        "bucketCounts": [str(count) for count in counts],
    }


def _resource(attributes: Mapping[str, str], metrics: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "resource": {"attributes": _attributes(attributes)},
        "scopeMetrics": [{"scope": _SCOPE, "metrics": metrics}],
    }


def _attributes(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": text}} for key, text in values.items() if text]


def _ns(at: float) -> str:
    return str(round(at * 1e9))
