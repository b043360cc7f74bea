"""What a create request mounts: ``Binds``, ``Mounts``, ``VolumesFrom``, ``VolumeDriver``. Pure.

Source: Docker Engine API 1.40 to 1.47, ``HostConfig``; Moby, ``volume/mounts/linux_parser.go``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.config.host_policy import admits
from agent.host_policy import paths, volumes
from agent.host_policy.findings import (
    Refusal,
    Refusals,
    Unreadable,
    folded,
    objects,
    shown,
    text,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent.config.host_policy import HostPolicy
    from agent.host_policy.own import OwnParts

_PROPAGATIONS: Final = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_HARMLESS_MOUNTS: Final = frozenset({"tmpfs"})


class Mounted(NamedTuple):
    """One mount of a path or a named volume."""

    source: str
    read_only: bool = False
    propagation: str = ""
    driver: str = ""
    """Of a volume that the mount describes itself."""
    options: Mapping[str, Any] = {}

    @property
    def is_path(self) -> bool:
        """Whether the source is a path of the host, and not the name of a volume."""
        return self.source.startswith("/")


def asked(host: Mapping[str, Any], own: OwnParts) -> Iterator[Mounted]:
    """Yield every mount of a request but the agent's own.

    Args:
        host: ``HostConfig`` with folded names.
        own: what the agent has added.

    Raises:
        Unreadable: a mount is not what the engine takes.
    """
    for bind in texts(host.get("binds"), "Binds"):
        if bind not in own.binds:
            yield from _of_bind(bind, own)
    for mount in objects(host.get("mounts"), "Mounts"):
        yield from _of_mount(mount)


def _of_bind(bind: str, own: OwnParts) -> Iterator[Mounted]:
    parts = bind.split(":")
    if len(parts) == 1:
        return  # a volume of the container's own
    if len(parts) > 3 or not parts[0]:
        raise Unreadable(f"the mount {shown(bind)} is not SOURCE:TARGET or SOURCE:TARGET:OPTIONS")
    if parts[0] in own.bind_sources:
        return
    words = parts[2].split(",") if len(parts) == 3 else []
    modes = [word for word in words if word in _PROPAGATIONS]
    yield Mounted(parts[0], read_only="ro" in words, propagation=modes[-1] if modes else "")


def _of_mount(mount: Mapping[str, Any]) -> Iterator[Mounted]:
    kind = text(mount.get("type"), "the type of a mount")
    if kind in _HARMLESS_MOUNTS:
        return
    source, read_only = text(mount.get("source"), "the source of a mount"), mount.get("readonly")
    if kind == "bind":
        more = folded(mount.get("bindoptions"), "BindOptions")
        mode = text(more.get("propagation"), "Propagation")
        # Whatever has no slash at its front is no path for the rules, and refused.
        yield Mounted(
            source if source.startswith("/") else f"/{source}/..", read_only is True, mode
        )
    elif kind == "volume":
        more = folded(mount.get("volumeoptions"), "VolumeOptions")
        made = folded(more.get("driverconfig"), "DriverConfig")
        options = made.get("options") or {}
        if not isinstance(options, dict) or source.startswith("/"):
            raise Unreadable(f"the volume {shown(source)} of a mount cannot be read")
        driver = text(made.get("name"), "the driver of a volume")
        yield Mounted(source, read_only is True, driver=driver, options=options)
    else:
        raise Unreadable(f"a mount is of the type {shown(kind)}")


def refusals(
    policy: HostPolicy,
    name: str,
    host: Mapping[str, Any],
    own: OwnParts,
    *,
    real: Mapping[str, str],
    protected: Iterable[str],
) -> Refusals:
    """Yield what is refused of the mounts of a container."""
    if own.mps_pipes and "ipc" not in policy.host_namespaces:
        yield Refusal("host_namespaces", "shares a GPU by MPS, and so the host's IPC", name)
    for mount in asked(host, own):
        if mount.is_path:
            rule, what = paths.why_refused(
                policy, mount.source, read_only=mount.read_only, real=real, protected=protected
            )
            if rule:
                yield Refusal(rule, what, name)
            if mount.propagation and mount.propagation not in policy.mount_propagation:
                told = f"mounts {shown(mount.source)} with the propagation {mount.propagation}"
                yield Refusal("mount_propagation", told, name)
        elif mount.driver or mount.options:
            yield from volumes.refusals(
                policy,
                mount.driver,
                mount.options,
                container=name,
                real=real,
                protected=protected,
            )
    driver = text(host.get("volumedriver"), "VolumeDriver")
    if driver and not admits(policy.volume_drivers, driver):
        yield Refusal("volume_drivers", f"has volumes of the driver {shown(driver)}", name)
    for other in texts(host.get("volumesfrom"), "VolumesFrom"):
        if other.split(":")[0] not in own.containers and policy.guards_host:
            told = f"mounts what the container {shown(other)} of another task mounts"
            yield Refusal("host_paths", told, name)


def volume_names(host: Mapping[str, Any], own: OwnParts) -> list[str]:
    """Return the names of the volumes that a request mounts; raises ``Unreadable``."""
    return [
        each.source
        for each in asked(host, own)
        if each.source and not each.is_path and each.source not in own.volumes
    ]


def host_sources(host: Mapping[str, Any], own: OwnParts) -> list[str]:
    """Return the paths of the host that a request mounts; raises ``Unreadable``."""
    found = []
    for each in asked(host, own):
        bound = volumes.source_of(each.driver, each.options)
        found += [each.source] if each.is_path else [bound] if bound else []
    return found
