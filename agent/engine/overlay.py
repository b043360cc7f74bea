"""The engine configuration that a payload brings along, laid over what the agent generates. Pure.

``dockerConfig`` of a container is laid over as the engine would decode it. Fails with ``PayloadError``
for what is not a JSON object.
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
"""What is generated or judged here, by its one spelling: the engine reads keys in any case."""

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
"""Keys of the create body that are no part of the engine's ``Config``."""


def checked(part: dict[str, Any] | str | None, error_name: str, what: str) -> dict[str, Any]:
    """Return one part of ``dockerConfig`` as ``payload.decode`` read it; nothing is an empty one.

    Raises:
        PayloadError: it is not a JSON object; ``error_name`` is what ECS calls the error.
    """
    if isinstance(part, str):
        raise PayloadError(f"dockerConfig.{what} is not a JSON object", name=error_name)
    return part or {}


def overlay(base: dict[str, Any], top: Mapping[str, Any], *, spelling: Iterable[str] = ()) -> None:
    """Lay engine configuration from the payload over what the agent generated, in place.

    Keys match whatever their case; objects merge, lists and scalars replace, null clears objects
    and lists and leaves scalars (the semantics of decoding JSON into a filled structure). Keys of
    ``spelling`` are written that way even if the base does not have them.
    """
    # casefold, as the engine does it: there "\N{LATIN SMALL LETTER LONG S}" is an s as well.
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
