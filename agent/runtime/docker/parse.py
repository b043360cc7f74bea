"""Converts the engine's JSON to protocol types. Pure; tolerates missing fields.

A field that is missing, null or of the wrong type gets its default. Only an answer that is not an
object raises an error, because then nothing is known.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.model.status import Health
from agent.runtime.docker.client import ExecState
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
        version=text(versions, "Version"),
        api_version=api,
        cgroup_driver=text(info, "CgroupDriver") or "cgroupfs",
        cgroup_version=integer(info, "CgroupVersion") or 1,
        engine_id=text(info, "ID"),
        security_options=texts(info, "SecurityOptions"),
        runtimes=tuple(sorted(member(info, "Runtimes"))),
        volume_plugins=texts(member(info, "Plugins"), "Volume"),
        log_drivers=texts(member(info, "Plugins"), "Log"),
        live_restore=info.get("LiveRestoreEnabled") is True,
        data_root=text(info, "DockerRootDir"),
        images_in_containerd="io.containerd.snapshotter" in str(info.get("DriverStatus")),
    )


def container_state(raw: Mapping[str, Any]) -> ContainerState:
    """Read ``/containers/{id}/json``."""
    state = member(raw, "State")
    config = member(raw, "Config")
    started_at = timestamp(state.get("StartedAt"))
    running = state.get("Running") is True
    # A container whose start failed has an exit code, although it never ran.
    ended = not running and started_at > 0
    return ContainerState(
        id=text(raw, "Id"),
        name=text(raw, "Name").removeprefix("/"),
        running=running,
        status=text(state, "Status"),
        pid=integer(state, "Pid"),
        exit_code=integer(state, "ExitCode") if ended else None,
        oom_killed=state.get("OOMKilled") is True,
        error=text(state, "Error"),
        created_at=timestamp(raw.get("Created")),
        started_at=started_at,
        finished_at=timestamp(state.get("FinishedAt")),
        health=_HEALTH.get(text(member(state, "Health"), "Status"), Health.UNKNOWN),
        image_id=text(raw, "Image"),
        labels=_labels(config.get("Labels")),
        network_mode=text(member(raw, "HostConfig"), "NetworkMode"),
        pid_mode=text(member(raw, "HostConfig"), "PidMode"),
        ipc_mode=text(member(raw, "HostConfig"), "IpcMode"),
        port_bindings=_port_bindings(member(raw, "HostConfig").get("PortBindings")),
        cut_off_from="" if config.get("NetworkDisabled") is True else _missing_network(raw),
        ipv4=_address(raw),
    )


def container_summary(raw: Mapping[str, Any]) -> ContainerSummary:
    """Read one row of ``/containers/json``."""
    names = texts(raw, "Names")
    # Links add names with two slashes; the container's own name has one.
    own = next((n for n in names if n.count("/") == 1), names[0] if names else "")
    return ContainerSummary(
        id=text(raw, "Id"),
        name=own.removeprefix("/"),
        state=text(raw, "State"),
        labels=_labels(raw.get("Labels")),
        network_mode=text(member(raw, "HostConfig"), "NetworkMode"),
        cut_off_from=_missing_network(raw) if text(raw, "State") == "running" else "",
        image_id=text(raw, "ImageID"),
    )


def image_info(raw: Mapping[str, Any]) -> ImageInfo:
    """Read ``/images/{name}/json``."""
    return ImageInfo(
        id=text(raw, "Id"),
        repo_digests=texts(raw, "RepoDigests"),
        size_bytes=integer(raw, "Size"),
        variables=frozenset(v.partition("=")[0] for v in texts(member(raw, "Config"), "Env")),
    )


def exec_state(raw: Mapping[str, Any]) -> ExecState:
    """Read ``/exec/{id}/json``."""
    return ExecState(
        running=raw.get("Running") is True,
        exit_code=integer(raw, "ExitCode"),
        pid=integer(raw, "Pid"),
    )


def image_summary(raw: Mapping[str, Any]) -> ImageSummary:
    """Read one row of ``/images/json``; an image that lost its name has ``<none>`` there."""
    return ImageSummary(
        id=text(raw, "Id"),
        tags=tuple(tag for tag in texts(raw, "RepoTags") if "<none>" not in tag),
        repo_digests=tuple(name for name in texts(raw, "RepoDigests") if "<none>" not in name),
        size_bytes=integer(raw, "Size"),
        created_at=float(integer(raw, "Created")),
    )


def event(raw: Mapping[str, Any]) -> EngineEvent | None:
    """Read one message of ``/events``; None for an unknown event."""
    actor = member(raw, "Actor")
    attributes = _labels(actor.get("Attributes"))
    action, _, detail = (text(raw, "Action") or text(raw, "status")).partition(":")
    if action not in ACTIONS:
        return None
    code = attributes.pop("exitCode", "")
    return EngineEvent(
        action=action,
        container_id=attributes.get("container", "")
        if text(raw, "Type") == "network"
        else text(actor, "ID") or text(raw, "id"),
        at=event_time_ns(raw) / 1e9,
        exit_code=int(code) if code.lstrip("-").isdecimal() else None,
        health=_HEALTH.get(detail.strip(), Health.UNKNOWN),
        labels=attributes,
    )


def _missing_network(raw: Mapping[str, Any]) -> str:
    """Return the network that a container was made for and is not in; empty if there is none."""
    networks = member(raw, "NetworkSettings").get("Networks")
    mode = text(member(raw, "HostConfig"), "NetworkMode")
    if not isinstance(networks, dict) or mode in ("", "none", "host") or ":" in mode:
        return ""
    network = "bridge" if mode == "default" else mode
    ids = {text(ends, "NetworkID") for ends in networks.values() if isinstance(ends, dict)}
    return "" if network in networks or network in ids else network


def _address(raw: Mapping[str, Any]) -> str:
    networks = member(member(raw, "NetworkSettings"), "Networks")
    mode = text(member(raw, "HostConfig"), "NetworkMode")
    return text(member(networks, "bridge" if mode == "default" else mode), "IPAddress")


def event_time_ns(raw: Mapping[str, Any]) -> int:
    """Return the time of an event in nanoseconds since the epoch; 0 if it has none."""
    return integer(raw, "timeNano") or integer(raw, "time") * 1_000_000_000


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
    if text(raw, "Driver") != "bridge":
        return ""
    return text(member(raw, "Options"), "com.docker.network.bridge.name")


def member(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return an object in an object; an empty one where there is none."""
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def text(raw: Mapping[str, Any], key: str) -> str:
    """Return a text in an object; an empty one where there is none."""
    value = raw.get(key)
    return value if isinstance(value, str) else ""


def integer(raw: Mapping[str, Any], key: str) -> int:
    """Return an integer in an object, which may be a text; 0 where there is none."""
    value = raw.get(key)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def texts(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return the texts of a list in an object."""
    value = raw.get(key)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _port_bindings(value: Any) -> dict[str, list[int]]:
    if not isinstance(value, dict):
        return {}
    return {
        port: [number for each in bindings if (number := integer(each, "HostPort"))]
        for port, bindings in value.items()
        if isinstance(bindings, list) and all(isinstance(each, dict) for each in bindings)
    }


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, str)}
