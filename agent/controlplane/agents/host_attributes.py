"""The attributes of a container instance when its host registers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.agents import bindings
from agent.controlplane.records import AttributeRecord

if TYPE_CHECKING:
    from agent.model.wire import Register

RESERVED_PREFIXES: Final = ("ecs.", "com.amazonaws.", "ecs-host-agent.")
"""Prefixes of attributes that only the agent sets, in each registration."""


def own(attributes: dict[str, AttributeRecord]) -> dict[str, AttributeRecord]:
    """Return the attributes that a person chose, without those that the agent sets itself."""
    return {name: a for name, a in attributes.items() if not name.startswith(RESERVED_PREFIXES)}


def of_call(
    call: Register, old: dict[str, AttributeRecord], zone: str
) -> dict[str, AttributeRecord]:
    """Return the agent's attributes and those of its host, overridden by those of an operator."""
    values: dict[str, str | None] = {
        "ecs.os-type": "linux",
        "ecs.os-family": "LINUX",
        "ecs.availability-zone": zone,
    }
    if call.resources.architecture:
        values["ecs.cpu-architecture"] = call.resources.architecture
    for name, value in call.attributes.items():
        if name != bindings.ATTRIBUTE:  # control's own word, not the host's
            values[name] = value or None
    put_by_operator = {name: value for name, value in old.items() if value.custom}
    return {name: AttributeRecord(value=value) for name, value in values.items()} | put_by_operator
