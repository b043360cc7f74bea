"""The shapes of telemetry, field by field; every function returns what is wrong, in words."""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Check = "Callable[[Any, str], list[str]]"
_TASKS_PER_MESSAGE = 10
_ULONG_MAX = 2**63 - 1
_RATE = ("rxBytesPerSecond", "txBytesPerSecond")
_COUNTERS = tuple(
    f"{d}{w}" for d in ("rx", "tx") for w in ("Bytes", "Dropped", "Errors", "Packets")
)
_STATES = {"INITIALIZING", "OK", "IMPAIRED", "INSUFFICIENT_DATA"}


def metrics(message: Mapping[str, Any]) -> list[str]:
    """Check the message of a ``PublishMetricsRequest``."""
    idle = isinstance(message.get("metadata"), dict) and message["metadata"].get("idle")
    found = _fields(message, "message", {"metadata", "timestamp"}, {"taskMetrics"})
    if found:
        return found
    found = _metadata(message["metadata"], "messageId", flags={"idle", "fin"})
    found += _stamp(message["timestamp"], "timestamp")
    if found:
        return found
    if idle and ("taskMetrics" in message or not message["metadata"]["fin"]):
        found.append("an idle message carries tasks or is not the last")
    if not idle and not message.get("taskMetrics"):
        found.append("not idle and without tasks")
    tasks = message.get("taskMetrics", [])
    if len(tasks) > _TASKS_PER_MESSAGE:
        found.append(f"{len(tasks)} tasks")
    for index, task in enumerate(tasks):
        found += _task(task, f"taskMetrics[{index}]")
    return found


def health(message: Mapping[str, Any]) -> list[str]:
    """Check the message of a ``PublishHealthRequest``."""
    found = _fields(message, "message", {"metadata", "tasks", "timestamp"}, set())
    if found:
        return found
    found = _metadata(message["metadata"], "messageId", flags={"fin"})
    found += _stamp(message["timestamp"], "timestamp")
    if not 1 <= len(message["tasks"]) <= _TASKS_PER_MESSAGE:
        found.append(f"{len(message['tasks'])} tasks")
    for task in message["tasks"]:
        wrong = _fields(task, "task", {*_HEADER, "containers"}, set())
        found += wrong
        for container in [] if wrong else task["containers"]:
            broken = _fields(
                container, "container", {"containerName", "healthStatus", "statusSince"}, set()
            )
            found += broken
            if not broken:
                found += _stamp(container["statusSince"], "statusSince")
                if container["healthStatus"] not in {"HEALTHY", "UNHEALTHY", "UNKNOWN"}:
                    found.append(f"health {container}")
    return found


def instance_status(message: Mapping[str, Any]) -> list[str]:
    """Check the message of a ``PublishInstanceStatusRequest``."""
    found = _fields(message, "message", {"metadata", "statuses", "timestamp"}, set())
    if found:
        return found
    found = _metadata(message["metadata"], "requestId", flags=set())
    found += _stamp(message["timestamp"], "timestamp")
    if not message["statuses"]:
        found.append("no status")
    for status in message["statuses"]:
        wrong = _fields(
            status, "status", {"type", "status", "lastUpdated", "lastStatusChange"}, set()
        )
        found += wrong
        if wrong:
            continue
        if status["type"] != "ContainerRuntime" or status["status"] not in _STATES:
            found.append(f"status {status}")
        found += _stamp(status["lastUpdated"], "lastUpdated")
        found += _stamp(status["lastStatusChange"], "lastStatusChange")
        if not found and status["lastStatusChange"] > status["lastUpdated"]:
            found.append(f"changed after it was looked at: {status}")
    return found


_HEADER = {"taskArn", "taskDefinitionFamily", "taskDefinitionVersion"}


def _metadata(value: Any, id_field: str, *, flags: set[str]) -> list[str]:
    found = _fields(value, "metadata", {"cluster", "containerInstance", id_field, *flags}, set())
    if found:
        return found
    found += [f"{n} is {value[n]!r}" for n in flags if not isinstance(value[n], bool)]
    try:
        uuid.UUID(value[id_field])
    except (ValueError, AttributeError, TypeError):
        found.append(f"{id_field} is not a UUID: {value[id_field]!r}")
    return found


def _task(task: Any, path: str) -> list[str]:
    found = _fields(
        task,
        path,
        set(_HEADER),
        {"containerMetrics", "volumeMetrics", "serviceConnectMetricsWrapper"},
    )
    if found:
        return found
    if not task["taskArn"].startswith("arn:"):
        found.append(f"{path} names {task['taskArn']!r}")
    for index, container in enumerate(task.get("containerMetrics", ())):
        found += _container(container, f"{path}.containerMetrics[{index}]")
    return found


def _container(container: Any, path: str) -> list[str]:
    found = _fields(
        container,
        path,
        {"containerName", "cpuStatsSet", "memoryStatsSet"},
        {"storageStatsSet", "networkStatsSet", "restartStatsSet"},
    )
    if found:
        return found
    found += stats_set(container["cpuStatsSet"], f"{path}.cpuStatsSet")
    found += stats_set(container["memoryStatsSet"], f"{path}.memoryStatsSet")
    storage = container.get("storageStatsSet")
    if storage is not None:
        found += _all_of(
            storage, f"{path}.storageStatsSet", {"readSizeBytes", "writeSizeBytes"}, ulong_set
        )
    network = container.get("networkStatsSet")
    if network is not None:
        where = f"{path}.networkStatsSet"
        counters = {k: v for k, v in network.items() if k not in _RATE}
        rates = {k: v for k, v in network.items() if k in _RATE}
        found += _all_of(counters, where, set(_COUNTERS), ulong_set)
        found += _all_of(rates, where, set(_RATE), stats_set)
    restarts = container.get("restartStatsSet")
    if restarts is not None:
        found += _fields(restarts, f"{path}.restartStatsSet", {"restartCount"}, set())
        if not found and not _is_count(restarts["restartCount"]):
            found.append(f"restartCount is {restarts['restartCount']!r}")
    return found


def stats_set(value: Any, path: str) -> list[str]:
    """Check a set of floating point figures."""
    found = _fields(value, path, {"min", "max", "sampleCount", "sum"}, set())
    if not found and not all(_is_number(value[n]) for n in ("min", "max", "sum")):
        found.append(f"{path}: {value}")
    return found or _consistent(value, path)


def ulong_set(value: Any, path: str) -> list[str]:
    """Check a set of counters with their overflow fields."""
    plain, over = {"min", "max", "sum"}, {"overflowMin", "overflowMax", "overflowSum"}
    found = _fields(value, path, {*plain, *over, "sampleCount"}, set())
    if found:
        return found
    for name in plain | over:
        if not _is_count(value[name]) or value[name] > _ULONG_MAX:
            found.append(f"{path}.{name} is {value[name]!r}")
    if not found and not any(value[n] for n in over):
        found += _consistent(value, path)
    return found


def _consistent(value: Mapping[str, Any], path: str) -> list[str]:
    count, low, high, total = (value[n] for n in ("sampleCount", "min", "max", "sum"))
    if not _is_count(count) or count < 1:
        return [f"{path}: {count!r} samples"]
    slack = 1e-6 * max(1.0, abs(total))
    if low > high or not low * count - slack <= total <= high * count + slack:
        return [f"{path} contradicts itself: {value}"]
    return []


def _all_of(value: Any, path: str, names: set[str], check: Callable[..., list[str]]) -> list[str]:
    found = _fields(value, path, names, set())
    return found or [f for n in sorted(names) for f in check(value[n], f"{path}.{n}")]


def _fields(value: Any, path: str, needed: set[str], allowed: set[str]) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path} is {value!r}"]
    found = [f"{path}.{n} is missing" for n in sorted(needed - set(value))]
    return found + [f"{path}.{n} is unknown" for n in sorted(set(value) - needed - allowed)]


def _stamp(value: Any, path: str) -> list[str]:
    if not _is_number(value) or not 1.5e9 < value < 5e9 or round(value, 3) != value:
        return [f"{path} is not a time in seconds with milliseconds: {value!r}"]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
