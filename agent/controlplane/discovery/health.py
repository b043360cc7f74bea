"""Which instances of a registry are answered. Pure.

Source: Cloud Map's API reference (DiscoverInstances).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.discovery.record import HEALTHY, UNHEALTHY, UNKNOWN

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from agent.controlplane.discovery.record import RegisteredInstance, RegistryRecord

ALL: Final = "ALL"
HEALTHY_OR_ELSE_ALL: Final = "HEALTHY_OR_ELSE_ALL"


def status(registry: RegistryRecord, instance: RegisteredInstance) -> str:
    """Return the health of an instance: UNKNOWN where nobody sets it."""
    if not registry.has_custom_health:
        return UNKNOWN
    return instance.health or HEALTHY


def by_health(
    registry: RegistryRecord, instances: Sequence[RegisteredInstance], wanted: str
) -> list[RegisteredInstance]:
    """Return the instances with a health status; all of a registry that has no health."""
    if not registry.has_custom_health or wanted == ALL:
        return list(instances)
    if wanted == UNHEALTHY:
        return [one for one in instances if status(registry, one) == UNHEALTHY]
    healthy = [one for one in instances if status(registry, one) == HEALTHY]
    return healthy if healthy or wanted == HEALTHY else list(instances)


def by_attributes(
    instances: Sequence[RegisteredInstance], wanted: Mapping[str, str], optional: Mapping[str, str]
) -> list[RegisteredInstance]:
    """Return the instances with all wanted attributes; only those with the optional ones too, if there are any."""

    def having(
        found: Sequence[RegisteredInstance], what: Mapping[str, str]
    ) -> list[RegisteredInstance]:
        return [one for one in found if what.items() <= one.attributes.items()]

    found = having(instances, wanted)
    return having(found, optional) or found


def some(
    instances: Sequence[RegisteredInstance], most: int, rng: random.Random
) -> list[RegisteredInstance]:
    """Return instances in random order, at most ``most`` of them."""
    return rng.sample(instances, min(most, len(instances)))
