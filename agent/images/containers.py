"""Which ended containers of other programs may be removed, if an operator asks for it. Pure.

Source: Amazon ECS agent 1.105.1, ``engine/docker_image_manager.go`` (states, limits). There, a container
that was only created counts as one that ended long ago; here, the time of its creation counts.

Tests: ``tests/unit/images/test_containers.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.runtime.protocol import ContainerState, ContainerSummary

_ENDED: Final = frozenset({"exited", "dead", "created"})


def ended(
    containers: Iterable[ContainerSummary], is_ours: Callable[[ContainerSummary], bool]
) -> list[ContainerSummary]:
    """Return the containers of others that do not run."""
    return [row for row in containers if row.state in _ENDED and not is_ours(row)]


def is_old(seen: ContainerState, least_age_s: float, now: float) -> bool:
    """Tell whether a container ended, or was created and never started, long enough ago."""
    since = seen.finished_at or seen.created_at
    return not seen.running and seen.status in _ENDED and since > 0 and now - since > least_age_s
