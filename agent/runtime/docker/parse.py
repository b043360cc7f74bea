"""Converts the engine's JSON to protocol types. Pure; tolerates missing fields.

A field that is missing, null or of the wrong type gets its default. Only an answer that is not an
object raises an error, because then nothing is known.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.model.status import Health
from agent.runtime.docker.exec import ExecState
from agent.runtime.protocol import (
    ContainerState,
    ContainerSummary,
    EngineEvent,
    EngineInfo,
    ImageInfo,
    ImageSummary,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

ACTIONS = ("create", "start", "die", "oom", "stop", "destroy", "health_status", "disconnect")
"""Events that the agent subscribes to; health checks alone cause three others every few seconds."""

_HEALTH = {"healthy": Health.HEALTHY, "unhealthy": Health.UNHEALTHY}


def engine_info(versions: Mapping[str, Any], info: Mapping[str, Any], api: str) -> EngineInfo:
    """Read ``/version`` and ``/info``."""
    return EngineInfo(
        version=_text(versions, "Version"),
        api_version=api,
        cgroup_driver=_text(info, "CgroupDriver") or "cgroupfs",
        cgroup_version=_number(info, "CgroupVersion") or 1,
        engine_id=_text(info, "ID"),
        security_options=_texts(info, "SecurityOptions"),
        runtimes=tuple(sorted(_object(info, "Runtimes"))),
        volume_plugins=_texts(_object(info, "Plugins"), "Volume"),
        log_drivers=_texts(_object(info, "Plugins"), "Log"),
        live_restore=info.get("LiveRestoreEnabled") is True,
        data_root=_text(info, "DockerRootDir"),
        images_in_containerd="io.containerd.snapshotter" in str(info.get("DriverStatus")),
    )


def container_state(raw: Mapping[str, Any]) -> ContainerState:
    """Read ``/containers/{id}/json``."""
    state = _object(raw, "State")
    config = _object(raw, "Config")
    started_at = timestamp(state.get("StartedAt"))
    running = state.get("Running") is True
    # A container whose start failed has an exit code, although it never ran.
    ended = not running and started_at > 0
    return ContainerState(
        id=_text(raw, "Id"),
        name=_text(raw, "Name").removeprefix("/"),
        running=running,
        status=_text(state, "Status"),
        pid=_number(state, "Pid"),
        exit_code=_number(state, "ExitCode") if ended else None,
        oom_killed=state.get("OOMKilled") is True,
        error=_text(state, "Error"),
        created_at=timestamp(raw.get("Created")),
        started_at=started_at,
        finished_at=timestamp(state.get("FinishedAt")),
        health=_HEALTH.get(_text(_object(state, "Health"), "Status"), Health.UNKNOWN),
        image_id=_text(raw, "Image"),
        labels=_labels(config.get("Labels")),
        network_mode=_text(_object(raw, "HostConfig"), "NetworkMode"),
        pid_mode=_text(_object(raw, "HostConfig"), "PidMode"),
        ipc_mode=_text(_object(raw, "HostConfig"), "IpcMode"),
        port_bindings=_port_bindings(_object(raw, "HostConfig").get("PortBindings")),
        cut_off_from="" if config.get("NetworkDisabled") is True else _missing_network(raw),
        ipv4=_address(raw),
    )


def container_summary(raw: Mapping[str, Any]) -> ContainerSummary:
    """Read one row of ``/containers/json``."""
    names = _texts(raw, "Names")
    # Links add names with two slashes; the container's own name has one.
    own = next((n for n in names if n.count("/") == 1), names[0] if names else "")
    return ContainerSummary(
        id=_text(raw, "Id"),
        name=own.removeprefix("/"),
        state=_text(raw, "State"),
        labels=_labels(raw.get("Labels")),
        network_mode=_text(_object(raw, "HostConfig"), "NetworkMode"),
        cut_off_from=_missing_network(raw) if _text(raw, "State") == "running" else "",
        image_id=_text(raw, "ImageID"),
    )


def image_info(raw: Mapping[str, Any]) -> ImageInfo:
    """Read ``/images/{name}/json``."""
    return ImageInfo(
        id=_text(raw, "Id"),
        repo_digests=_texts(raw, "RepoDigests"),
        size_bytes=_number(raw, "Size"),
        variables=frozenset(v.partition("=")[0] for v in _texts(_object(raw, "Config"), "Env")),
    )


def exec_state(raw: Mapping[str, Any]) -> ExecState:
    """Read ``/exec/{id}/json``."""
    return ExecState(
        running=raw.get("Running") is True,
        exit_code=_number(raw, "ExitCode"),
        pid=_number(raw, "Pid"),
    )


def image_summary(raw: Mapping[str, Any]) -> ImageSummary:
    """Read one row of ``/images/json``; an image that lost its name has ``<none>`` there."""
    return ImageSummary(
        id=_text(raw, "Id"),
        tags=tuple(tag for tag in _texts(raw, "RepoTags") if "<none>" not in tag),
        repo_digests=tuple(name for name in _texts(raw, "RepoDigests") if "<none>" not in name),
        size_bytes=_number(raw, "Size"),
        created_at=float(_number(raw, "Created")),
    )


def event(raw: Mapping[str, Any]) -> EngineEvent | None:
    """Read one message of ``/events``; None for an unknown event."""
    actor = _object(raw, "Actor")
    attributes = _labels(actor.get("Attributes"))
    action, _, detail = (_text(raw, "Action") or _text(raw, "status")).partition(":")
    if action not in ACTIONS:
        return None
    code = attributes.pop("exitCode", "")
    return EngineEvent(
        action=action,
        container_id=attributes.get("container", "")
        if _text(raw, "Type") == "network"
        else _text(actor, "ID") or _text(raw, "id"),
        at=event_time_ns(raw) / 1e9,
        exit_code=int(code) if code.lstrip("-").isdecimal() else None,
        health=_HEALTH.get(detail.strip(), Health.UNKNOWN),
        labels=attributes,
    )


def _missing_network(raw: Mapping[str, Any]) -> str:
    """Return the network that a container was made for and is not in; empty if there is none."""
    networks = _object(raw, "NetworkSettings").get("Networks")
    mode = _text(_object(raw, "HostConfig"), "NetworkMode")
    if not isinstance(networks, dict) or mode in ("", "none", "host") or ":" in mode:
        return ""
    network = "bridge" if mode == "default" else mode
    ids = {_text(ends, "NetworkID") for ends in networks.values() if isinstance(ends, dict)}
    return "" if network in networks or network in ids else network


def _address(raw: Mapping[str, Any]) -> str:
    networks = _object(_object(raw, "NetworkSettings"), "Networks")
    mode = _text(_object(raw, "HostConfig"), "NetworkMode")
    return _text(_object(networks, "bridge" if mode == "default" else mode), "IPAddress")


def event_time_ns(raw: Mapping[str, Any]) -> int:
    """Return the time of an event in nanoseconds since the epoch; 0 if it has none."""
    return _number(raw, "timeNano") or _number(raw, "time") * 1_000_000_000


def timestamp(value: Any) -> float:
    """Return Unix seconds of an RFC 3339 time; 0 for the engine's "never" and for invalid text."""
    if not isinstance(value, str):
        return 0.0
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(moment.timestamp(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def bridge_link(raw: Mapping[str, Any]) -> str:
    """Return the link of a bridge network, as inspected; empty if it is of another kind."""
    if _text(raw, "Driver") != "bridge":
        return ""
    return _text(_object(raw, "Options"), "com.docker.network.bridge.name")


def _object(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def _number(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _texts(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = raw.get(key)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _port_bindings(value: Any) -> dict[str, list[int]]:
    if not isinstance(value, dict):
        return {}
    return {
        port: [number for each in bindings if (number := _number(each, "HostPort"))]
        for port, bindings in value.items()
        if isinstance(bindings, list) and all(isinstance(each, dict) for each in bindings)
    }


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, str)}
