"""Lays the engine configuration in a payload over what the agent generates. Pure.

``dockerConfig`` of a container is merged as the engine would decode it. Fails with ``PayloadError``
if it is not a JSON object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONFIG_KEYS = (
    "Image",
    "Env",
    "Cmd",
    "Entrypoint",
    "ExposedPorts",
    "Labels",
    "Healthcheck",
    "Hostname",
    "Domainname",
    "MacAddress",
    "NetworkDisabled",
)
"""Keys that are generated or checked here, in their standard case; the engine ignores case."""

HOST_CONFIG_KEYS = (
    "NetworkMode",
    "PidMode",
    "IpcMode",
    "CpuShares",
    "Memory",
    "Privileged",
    "Binds",
    "VolumesFrom",
    "DeviceRequests",
    "Links",
    "PortBindings",
    "PublishAllPorts",
    "Dns",
    "DnsSearch",
    "DnsOptions",
    "ExtraHosts",
    "RestartPolicy",
    "AutoRemove",
    "ReadonlyRootfs",
    "LogConfig",
)
BESIDE_CONFIG = frozenset({"hostconfig", "networkingconfig"})
"""Keys of the create body that are not part of the engine's ``Config``."""


def checked(part: dict[str, Any] | str | None, error_name: str, what: str) -> dict[str, Any]:
    """Return one part of ``dockerConfig`` as read by ``payload.decode``; empty if it is absent.

    Raises:
        PayloadError: it is not a JSON object; ``error_name`` is the name of the error in ECS.
    """
    if isinstance(part, str):
        raise PayloadError(f"dockerConfig.{what} is not a JSON object", name=error_name)
    return part or {}


def overlay(base: dict[str, Any], top: Mapping[str, Any], *, spelling: Iterable[str] = ()) -> None:
    """Lay engine configuration from the payload over what the agent generated, in place.

    Keys match in any case; objects are merged, lists and scalars replaced; null clears objects and
    lists and leaves scalars (the semantics of decoding JSON into a filled structure). Keys in
    ``spelling`` are written in that case even if the base does not have them.
    """
    # casefold, as in the engine: "\N{LATIN SMALL LETTER LONG S}" equals an s.
    by_fold = {key.casefold(): key for key in (*spelling, *base)}
    for key, value in top.items():
        name = by_fold.get(key.casefold(), key)
        current = base.get(name)
        if value is None:
            if isinstance(current, dict | list):
                base.pop(name)
        elif isinstance(current, dict) and isinstance(value, dict):
            merged = dict(current)
            overlay(merged, value)
            base[name] = merged
        else:
            base[name] = value
            by_fold[key.casefold()] = name
