"""Rules for the port mappings of a task definition. Pure.

Source of the rules: the Amazon ECS API reference (PortMapping); error texts are those of the service
if known.

Tests: ``tests/unit/controlplane/definition/test_rules.py``.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from agent.controlplane.front.errors import ClientException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RANGES_LIMIT = 100
"""Maximum number of port ranges of one container."""

_PORT_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_SAME_PORT_MODES = frozenset({"host", "awsvpc"})


def check_mappings(container: Mapping[str, Any], mode: str) -> list[dict[str, Any]]:
    """Return the port mappings of a container as the service would store them.

    Raises:
        ClientException: a rule is broken; the text names the container.
    """
    given = container.get("portMappings", [])
    if given and mode == "none":
        raise ClientException("Port mappings are not supported when networkMode=none.")
    if given and container.get("disableNetworking"):
        raise _refused(container, "Port mappings need networking, which 'disableNetworking' ends.")
    filled = [_mapping(container, mapping, mode) for mapping in given]
    if sum("containerPortRange" in mapping for mapping in filled) > RANGES_LIMIT:
        raise _refused(container, f"At most {RANGES_LIMIT} port ranges are allowed.")
    _check_overlaps(container, filled)
    return filled


def check_host_ports(containers: Sequence[Mapping[str, Any]], mode: str) -> None:
    """Raise ``ClientException`` if two mappings of a task use the same port of the host.

    Args:
        containers: the checked containers of one task.
        mode: the task's network mode; ``awsvpc`` uses no ports of the host.
    """
    if mode == "awsvpc":
        return
    counts = Counter(
        (mapping["hostPort"], mapping["protocol"])
        for container in containers
        for mapping in container["portMappings"]
        if mapping.get("hostPort")
    )
    twice = [f"{port}/{protocol}" for (port, protocol), count in counts.items() if count > 1]
    if twice:
        raise ClientException(f"The host port {twice[0]} is used by more than one port mapping.")


def _mapping(container: Mapping[str, Any], mapping: Mapping[str, Any], mode: str) -> dict[str, Any]:
    filled: dict[str, Any] = {"protocol": "tcp", **mapping}
    if "containerPortRange" in mapping:
        _check_range(container, mapping, mode)
        return filled
    port, host_port = mapping.get("containerPort", 0), mapping.get("hostPort", 0)
    if not 1 <= port <= 65535:
        raise _refused(container, f"The container port {port} must be between 1 and 65535.")
    if not 0 <= host_port <= 65535:
        raise _refused(container, f"The host port {host_port} must be between 0 and 65535.")
    if mode in _SAME_PORT_MODES:
        if host_port not in (0, port):
            raise ClientException(
                f"When networkMode={mode}, the host ports and container ports in port mappings "
                "must match."
            )
        host_port = port
    return {**filled, "hostPort": host_port}


def _check_range(container: Mapping[str, Any], mapping: Mapping[str, Any], mode: str) -> None:
    if "containerPort" in mapping or "hostPort" in mapping:
        raise _refused(
            container, "Use either 'containerPortRange' or 'containerPort' and 'hostPort'."
        )
    if mode not in ("bridge", "awsvpc"):
        raise _refused(container, "'containerPortRange' needs networkMode bridge or awsvpc.")
    match = _PORT_RANGE.fullmatch(mapping["containerPortRange"])
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= first < last <= 65535:
        raise _refused(
            container,
            "'containerPortRange' must be first-last, from 1 to 65535, and first less than last.",
        )


def _check_overlaps(container: Mapping[str, Any], mappings: Sequence[Mapping[str, Any]]) -> None:
    """Check that a port of a range is in no other mapping.

    The same single port may occur twice: it can be published on several ports of the host.
    """
    spans = sorted((m["protocol"], *_span(m)) for m in mappings)
    # By protocol, the earlier span that reaches furthest: overlapping spans need not be adjacent.
    furthest: dict[str, tuple[int, int]] = {}
    for protocol, first, last in spans:
        before = furthest.get(protocol)
        if before is not None and first <= before[1] and (last > first or before[1] > before[0]):
            raise _refused(
                container,
                f"The {protocol} port {first} is in more than one port mapping: port ranges must "
                "not overlap.",
            )
        if before is None or last > before[1]:
            furthest[protocol] = first, last


def _span(mapping: Mapping[str, Any]) -> tuple[int, int]:
    if "containerPortRange" in mapping:
        first, last = mapping["containerPortRange"].split("-")
        return int(first), int(last)
    return mapping["containerPort"], mapping["containerPort"]


def _refused(container: Mapping[str, Any], text: str) -> ClientException:
    return ClientException(f"Invalid setting for container '{container.get('name', '')}'. {text}")
