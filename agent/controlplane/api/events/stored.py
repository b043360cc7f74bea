"""What several calls of the API do with rules: find, change, and read names of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane import access
from agent.controlplane.api.events.errors import ResourceNotFoundException
from agent.controlplane.api.scheduler import requests
from agent.controlplane.schedules.record import ScheduleRecord, rule_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.parts import Parts

BUS: Final = "default"
ZONE: Final = "UTC"
"""Of all rules."""
WHAT: Final = "rule"
_SHOWN: Final = 64


def name(parts: Parts, request: Mapping[str, Any], member: str = "Name") -> str:
    """Return the name of a rule on the default event bus.

    Raises:
        ValidationException: it is not a name.
        ResourceNotFoundException: the request is for another event bus.
    """
    given = requests.name(request, member)
    expect_bus(parts, request)
    return given


def expect_bus(parts: Parts, request: Mapping[str, Any]) -> None:
    """Return if a request is for the default event bus; raises ``ResourceNotFoundException``."""
    bus: str = request.get("EventBusName", BUS)
    arn = parts.names.rule("").replace(":rule/", ":event-bus/")
    if bus not in (BUS, f"{arn}{BUS}"):
        raise ResourceNotFoundException(
            f"Event bus {bus[:_SHOWN]} does not exist; this control endpoint has the default one alone."
        )


async def find(parts: Parts, rule: str) -> ScheduleRecord:
    """Return a rule; raises ``ResourceNotFoundException``."""
    found = await access.find(parts.store, ScheduleRecord, rule_key(rule))
    if found is None:
        raise _missing(rule)
    return found.record


async def change(
    parts: Parts, rule: str, decide: Callable[[ScheduleRecord], ScheduleRecord]
) -> ScheduleRecord:
    """Change a rule; ``decide`` is pure and may be called more than once.

    Raises:
        ResourceNotFoundException: there is no such rule.
    """
    changed = await access.change(parts.store, ScheduleRecord, rule_key(rule), decide)
    if changed is None:
        raise _missing(rule)
    return changed


def _missing(rule: str) -> ResourceNotFoundException:
    return ResourceNotFoundException(f"Rule {rule} does not exist on EventBus {BUS}.")
