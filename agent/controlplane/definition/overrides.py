"""Overrides: the task definition as changed by one call of RunTask or StartTask.

A task runs ``effective(definition, overrides)``: the scheduler reserves resources for it, ``payload``
sends it. The definition has the format of DescribeTaskDefinition, the overrides are a
``TaskOverride``. Pure. Source of the rules: the ECS API reference, ``TaskOverride`` and
``ContainerOverride``.

Tests: ``tests/unit/controlplane/definition/test_payload.py``,
``tests/unit/controlplane/definition/test_rules.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent.controlplane.definition.sizes import InvalidSize, cpu_units, memory_mib
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Mapping

LENGTH_LIMIT = 8192
"""Maximum length of all overrides of a run, in characters of JSON."""

_REPLACED = ("command", "cpu", "memory", "memoryReservation", "environmentFiles")


class OverrideError(AgentError):
    """An override cannot be applied; the text is that of ECS's InvalidParameterException."""


def effective(definition: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definition with the overrides applied; neither argument is changed.

    ``cpu`` and ``memory`` of the task become CPU units and MiB, as decimal text; empty if not set.

    Raises:
        OverrideError: a container is unknown or named twice, or a size is invalid.
    """
    by_name: dict[str, Mapping[str, Any]] = {}
    for item in overrides.get("containerOverrides", ()):
        name = item.get("name", "")
        if not name:
            raise OverrideError("Override for container without a name.")
        if name in by_name:
            raise OverrideError(f"Container {name[:255]} is overridden twice.")
        by_name[name] = item
    containers = [
        _container(container, by_name.pop(container["name"], {}))
        for container in definition.get("containerDefinitions", ())
    ]
    if by_name:
        name = next(iter(by_name))
        raise OverrideError(
            f"Override for container named {name[:255]} is not a container in the TaskDefinition."
        )
    changed = dict(definition) | {"containerDefinitions": containers}
    try:
        for size, read in (("cpu", cpu_units), ("memory", memory_mib)):
            changed[size] = str(read(overrides.get(size) or definition.get(size) or "") or "")
    except InvalidSize as error:
        raise OverrideError(str(error)) from None
    for role in ("taskRoleArn", "executionRoleArn"):
        if overrides.get(role):
            changed[role] = overrides[role]
    return changed


def check_length(overrides: Mapping[str, Any]) -> None:
    """Raise ``OverrideError`` if the overrides of a run are longer than Amazon ECS allows."""
    if len(msgspec.json.encode(overrides).decode()) > LENGTH_LIMIT:
        raise OverrideError(f"Container Overrides length must be at most {LENGTH_LIMIT}")


def _container(container: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(container)
    for member in _REPLACED:
        if member in override:
            changed[member] = override[member]
    if override.get("environment"):
        environment = {e.get("name", ""): e for e in container.get("environment", ())}
        environment |= {e.get("name", ""): e for e in override["environment"]}
        changed["environment"] = list(environment.values())
    if override.get("resourceRequirements"):
        kinds = {r["type"] for r in override["resourceRequirements"]}
        kept = [r for r in container.get("resourceRequirements", ()) if r["type"] not in kinds]
        changed["resourceRequirements"] = kept + list(override["resourceRequirements"])
    return changed
