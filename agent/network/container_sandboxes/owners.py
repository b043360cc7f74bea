"""Which container holds which sandbox, as containers themselves tell. Pure.

Tests: ``tests/unit/network/container_sandboxes/test_sandboxes.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from agent.runtime.protocol import joined

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from agent.runtime.protocol import ContainerSummary


class Owner(NamedTuple):
    """The container that holds a sandbox."""

    task_arn: str
    container: str


@dataclass(frozen=True, slots=True)
class Containers:
    """What this agent has when it starts."""

    sandboxes: Collection[ContainerSummary]
    users: Mapping[str, Owner]
    """Who has joined which container's network, by that container's engine id."""
    by_port: Mapping[tuple[str, int], Owner] = field(default_factory=dict)
    """To whom a host port was given, by protocol and number, if its task has not stopped."""

    def owner(self, sandbox_id: str, ports: Iterable[tuple[str, Sequence[int]]]) -> Owner | None:
        """Return who holds a sandbox with these host ports; None if nobody does.

        A container that is yet to be created has its ports already, by which it holds the sandbox.
        """
        known = self.users.get(sandbox_id)
        given = (
            self.by_port.get((protocol, port)) for protocol, numbers in ports for port in numbers
        )
        return known or next(filter(None, given), None)


def users(
    containers: Iterable[ContainerSummary], task_label: str, name_label: str
) -> dict[str, Owner]:
    """Return who has joined which container's network, by that container's engine id. Pure."""
    return {
        other: Owner(each.labels.get(task_label, ""), each.labels.get(name_label, ""))
        for each in containers
        if (other := joined(each.network_mode))
    }
