"""Which container holds which sandbox, as containers themselves tell. Pure.

Tests: ``tests/unit/network/container_sandboxes/test_sandboxes.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.runtime.protocol import joined

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from agent.runtime.protocol import ContainerSummary


class Owner(NamedTuple):
    """The container that holds a sandbox."""

    task_arn: str
    container: str


class Containers(NamedTuple):
    """What the engine has of this agent when it starts."""

    sandboxes: Collection[ContainerSummary]
    users: Mapping[str, Owner]
    """Who has joined which container's network, by that container's engine id."""


def users(
    containers: Iterable[ContainerSummary], task_label: str, name_label: str
) -> dict[str, Owner]:
    """Return who has joined which container's network, by that container's engine id. Pure."""
    return {
        other: Owner(each.labels.get(task_label, ""), each.labels.get(name_label, ""))
        for each in containers
        if (other := joined(each.network_mode))
    }
