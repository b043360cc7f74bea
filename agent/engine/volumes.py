"""Which volumes the agent makes for a task. Pure.

Source: Amazon ECS agent 1.105.1, ``taskresource/volume``. A ``host`` volume with a path is a plain
bind and needs nothing; one without is made for the task and removed with it; a ``docker`` volume is
made for the task, or shared and never removed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import PayloadError
from agent.model import ids, reasons

if TYPE_CHECKING:
    from agent.model.payload import TaskPayload, Volume


@dataclass(frozen=True, slots=True)
class VolumeOrder:
    """One volume that must exist in the engine before the task's containers are made."""

    engine_name: str
    driver: str = "local"
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    shared: bool = False
    """True: never removed by the agent."""
    must_exist: bool = False
    """True: shared without ``autoprovision``; the agent does not make it."""


def volume_kind(volume: Volume) -> str:
    """Return the type of a volume; one without is ``docker`` or ``host`` by what it carries."""
    return volume.type or ("docker" if volume.docker_volume_configuration else "host")


def volume_sources(payload: TaskPayload) -> dict[str, str]:
    """Return, for each volume of the task, the host path or engine volume that containers mount."""
    sources = {}
    for volume in payload.volumes:
        docker = volume.docker_volume_configuration or {}
        kind = volume_kind(volume)
        if kind == "host" and volume.host is not None and volume.host.source_path:
            sources[volume.name] = volume.host.source_path
        elif kind == "docker" and docker.get("scope") == "shared":
            sources[volume.name] = volume.name
        else:
            sources[volume.name] = ids.volume_engine_name(
                payload.arn, payload.family, payload.version, volume.name
            )
    return sources


def orders(payload: TaskPayload) -> list[VolumeOrder]:
    """Return the volumes to make.

    Raises:
        PayloadError: a volume that this agent cannot make; the text is the task's reason.
    """
    names = volume_sources(payload)
    result = []
    for volume in payload.volumes:
        kind = volume_kind(volume)
        if kind == "host":
            if volume.host is None or not volume.host.source_path:
                result.append(VolumeOrder(engine_name=names[volume.name]))
        elif kind == "docker":
            result.append(_docker(payload, volume, names[volume.name]))
        else:
            raise _unusable(payload, f"volume type {kind!r} of {volume.name} is not supported")
    return result


def _docker(payload: TaskPayload, volume: Volume, engine_name: str) -> VolumeOrder:
    given = volume.docker_volume_configuration
    if given is None:
        raise _unusable(payload, "invalid volume: empty volume configuration")
    shared = given.get("scope") == "shared"
    provision = bool(given.get("autoprovision"))
    if provision and not shared:
        raise _unusable(payload, f"volume {volume.name}: task scope takes no autoprovision")
    return VolumeOrder(
        engine_name=engine_name,
        driver=str(given.get("driver") or "local"),
        options=_strings(payload, volume, given.get("driverOpts")),
        labels=_strings(payload, volume, given.get("labels")),
        shared=shared,
        must_exist=shared and not provision,
    )


def _strings(payload: TaskPayload, volume: Volume, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _unusable(payload, f"volume {volume.name}: options and labels must be texts")
    return value


def _unusable(payload: TaskPayload, cause: str) -> PayloadError:
    return PayloadError(reasons.resource_unusable(payload.arn, cause))
