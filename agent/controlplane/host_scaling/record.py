"""What is stored of a capacity provider's hosts in a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import field

from agent.controlplane.records import InstanceRecord, Record

if TYPE_CHECKING:
    from agent.controlplane.host_scaling.hooks import Pair

PREFIX: Final = "/host-scaling/"
DRAINING: Final = "DRAINING"
"""Of a host that is to be removed: its tasks are leaving it."""
ENDING: Final = "ENDING"
"""The program is told to end it."""


class ScalingRecord(Record, frozen=True):
    """How many hosts there should be, and which are on their way out."""

    desired: int = -1
    """-1 before the first decision."""
    step_at: float = 0.0
    """When the current step began; Unix seconds, as the next times."""
    step_from: int = 0
    """How many hosts were desired then."""
    low_since: float = 0.0
    """Since when there are more hosts than are needed; 0 while there are not."""
    removing: dict[str, str] = field(default_factory=dict)
    """DRAINING or ENDING, by the ids of the container instances."""
    template: InstanceRecord | None = None
    """What a host is like, for times when there is none."""


def key_of(pair: Pair) -> str:
    """Return the key of a capacity provider in a cluster."""
    return f"{PREFIX}{pair.cluster}/{pair.provider}"
