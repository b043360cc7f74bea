"""The volumes that the agent creates in the engine for a task.

Source: Amazon ECS agent 1.105.1, ``taskresource/volume``. A ``host`` volume with a path is a plain
bind mount and needs no preparation; one without a path is created for the task and removed with it.
A ``docker`` volume is created for the task, or is shared and never removed. An ``efs`` volume is
created for the task, but its content belongs to the file system (``efs``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.engine.labels import LABEL_OWNER, LABEL_TASK
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.efs import EfsSettings, EfsUnusable, efs_mount
from agent.errors import PayloadError
from agent.model import ids, reasons

if TYPE_CHECKING:
    from agent.engine.preparations.contract import HostAccess
    from agent.model.payload import TaskPayload, Volume


@dataclass(frozen=True, slots=True)
class WantedVolume:
    """One volume that must exist in the engine before the task's containers are created."""

    engine_name: str
    driver: str = "local"
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    shared: bool = False
    """Never removed by the agent."""
    must_exist: bool = False
    """Shared without ``autoprovision``: the agent does not create it."""


_ANY_HOST = EfsSettings(plugin=True)
"""A host that can mount everything that any host can mount."""


class VolumePreparation:
    """Volumes; see ``contract.Preparation``."""

    name = "volumes"
    doing = "create volumes"
    is_remote = False

    def is_wanted(self, payload: TaskPayload) -> bool:
        """Return whether a task has volumes."""
        return bool(payload.volumes)

    def check(self, payload: TaskPayload) -> None:
        """Raise ``PayloadError`` for a volume that no host can provide."""
        wanted_volumes(payload, _ANY_HOST)

    async def prepare(self, payload: TaskPayload, access: HostAccess) -> Provision:
        """Create the volumes, and check those that must already exist."""
        runtime = access.runtime
        own = {LABEL_TASK: payload.arn, LABEL_OWNER: access.owner}
        for volume in wanted_volumes(payload, access.efs):
            if access.host_policy is not None:
                await access.host_policy.check_volume(payload, volume, runtime)
            if volume.must_exist:
                if not await runtime.volume_exists(volume.engine_name):
                    raise _unusable(
                        payload,
                        f"volume {volume.engine_name} does not exist and is not autoprovisioned",
                    )
                continue
            await runtime.create_volume(
                volume.engine_name,
                driver=volume.driver,
                options=volume.options,
                labels=volume.labels if volume.shared else {**volume.labels, **own},
            )
        return Provision(mount_sources=volume_sources(payload))

    async def undo(self, payload: TaskPayload, access: HostAccess) -> None:
        """Remove the volumes that were created for the task."""
        try:
            made = wanted_volumes(payload, _ANY_HOST)  # names are the same on every host
        except PayloadError:
            return  # refused before anything was created
        for volume in made:
            if not volume.shared:
                await access.runtime.remove_volume(volume.engine_name)


def volume_kind(volume: Volume) -> str:
    """Return the type of a volume; if it has none, its fields decide, and else it is ``host``."""
    if volume.type:
        return volume.type
    if volume.efs_volume_configuration:
        return "efs"
    return "docker" if volume.docker_volume_configuration else "host"


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


def wanted_volumes(payload: TaskPayload, efs: EfsSettings) -> list[WantedVolume]:
    """Return the volumes to create.

    Args:
        payload: the task.
        efs: how the host reaches EFS file systems.

    Raises:
        PayloadError: a volume that this agent cannot create; the text is the task's reason.
    """
    names = volume_sources(payload)
    result = []
    for volume in payload.volumes:
        kind = volume_kind(volume)
        if kind == "host":
            if volume.host is None or not volume.host.source_path:
                result.append(WantedVolume(engine_name=names[volume.name]))
        elif kind == "docker":
            result.append(_docker(payload, volume, names[volume.name]))
        elif kind == "efs":
            result.append(_efs(payload, volume, names[volume.name], efs))
        else:
            raise _unusable(payload, f"volume type {kind!r} of {volume.name} is not supported")
    return result


def _docker(payload: TaskPayload, volume: Volume, engine_name: str) -> WantedVolume:
    given = volume.docker_volume_configuration
    if given is None:
        raise _unusable(payload, "invalid volume: empty volume configuration")
    shared = given.get("scope") == "shared"
    provision = bool(given.get("autoprovision"))
    if provision and not shared:
        raise _unusable(payload, f"volume {volume.name}: task scope takes no autoprovision")
    return WantedVolume(
        engine_name=engine_name,
        driver=str(given.get("driver") or "local"),
        options=_strings(payload, volume, given.get("driverOpts")),
        labels=_strings(payload, volume, given.get("labels")),
        shared=shared,
        must_exist=shared and not provision,
    )


def _efs(payload: TaskPayload, volume: Volume, engine_name: str, efs: EfsSettings) -> WantedVolume:
    given = volume.efs_volume_configuration
    if given is None:
        raise _unusable(payload, "invalid volume: empty volume configuration")
    try:
        mount = efs_mount(payload, volume.name, given, efs)
    except EfsUnusable as error:
        raise _unusable(payload, str(error)) from None
    return WantedVolume(engine_name=engine_name, driver=mount.driver, options=mount.options)


def _strings(payload: TaskPayload, volume: Volume, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _unusable(payload, f"volume {volume.name}: options and labels must be texts")
    return value


def _unusable(payload: TaskPayload, cause: str) -> PayloadError:
    return PayloadError(reasons.resource_unusable(payload.arn, cause))
